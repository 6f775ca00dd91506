"""Hearing of a shutdown when it begins, and holding it back until those who wait are answered.

A server that hears SIGTERM cuts off, in its own way and at its own time, whoever has no answer yet:
uvicorn answers every open handshake with a 500 within 0.1 s. So a handler of ours stands in front
of the server's own. It tells the listeners and passes the signal on when they have answered, or
when no more answers go out, so that nothing they do holds a shutdown up.

Whether answers still go out is measured in turns of the event loop, not by the clock alone: on a
machine that is overloaded a second may pass between two answers, or before the first.

There is one set of listeners for the process, which come and go in any order, and one handler in
front of each one that others have installed. A signal is passed on by sending it to the main thread
once more. So the server's handler runs as it would have run: in the main thread, even if the event
loop is blocked, and what it raises comes out where it would have come out.
"""

import _thread
import asyncio
import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Generator
from types import FrameType
from typing import TypeGuard

from orchestrator._runtime.event_loop import EventLoop

ANSWER_SECONDS = 0.3
"""How long a signal is held back while no answer goes out, if the event loop turns meanwhile."""

QUIET_TURNS = 10
"""How often the event loop must turn in that time. An answer takes about eight turns."""

BLOCKED_SECONDS = 3.0
"""How long it is held back by an event loop that does not turn. It is blocked, or it gets no share
of the processor: that cannot be told from outside. A server that acts on its signal in the event
loop, as uvicorn does, loses nothing by this."""

MOST_SECONDS = 8.0
"""How long it is held back at most, while answers go out one by one. The shortest time that
platforms give between SIGTERM and SIGKILL is 10 s (`docker stop`, Cloud Run)."""

Release = Callable[[], None]
"""Says that a listener has answered; the signal may go on as far as it is concerned."""

Handler = Callable[[int, FrameType | None], object]


class _Listener:
    """Somebody who wants to hear of signals, on an event loop of its own."""

    def __init__(
        self,
        numbers: frozenset[signal.Signals],
        stop: Callable[[Release], object],
        unanswered: Callable[[], int],
    ) -> None:
        self.numbers = numbers
        self.unanswered = unanswered
        self.in_main_thread = threading.current_thread() is threading.main_thread()
        self._stop = stop
        self._loop = EventLoop()
        self._releases: list[Release] = []

    def tell(self, release: Release) -> bool:
        """Have `stop` called, from any thread or a signal handler; False if the loop has ended."""
        self._releases.append(release)
        return self.at_next_turn(functools.partial(self._call, release))

    def _call(self, release: Release) -> None:
        if self in _listeners:
            self._stop(release)

    def at_next_turn(self, call: Callable[[], None]) -> bool:
        """Call it on the loop, from any thread. False if the loop has ended: it listens no more."""
        try:
            self._loop.call(call)
        except RuntimeError:
            _listeners.pop(self, None)
            return False
        return True

    def forget_if_ended(self) -> None:
        """Keep nothing alive for a loop that was given up without an end."""
        if self._loop.ended:
            _listeners.pop(self, None)

    def leave(self) -> None:
        """Hold no signal back any more."""
        for release in self._releases:
            release()


_listeners: dict[_Listener, None] = {}


@contextlib.contextmanager
def call_on_signal(
    stop: Callable[[Release], object],
    *numbers: signal.Signals,
    unanswered: Callable[[], int] = lambda: 0,
) -> Generator[Callable[[], None]]:
    """Call `stop` on the event loop at these signals, before the server's own handler runs.

    A signal that is ignored, or whose default action ends the process, is left as it is; so are
    all of them outside the main thread, unless a listener in the main thread has put a handler in
    front. A handler that asyncio's `add_signal_handler` installed is woken through a pipe, which
    stays in place: it is not held back.

    Args:
        stop: Called with what it has to call once everybody is answered.
        *numbers: The signals.
        unanswered: How many are to be answered. Asked in a signal handler and in another thread; if
            there are none, the signal is passed on at once.

    Yields:
        A function that takes the place in front again, for where a server has installed its
        handlers only after that.
    """
    listener = _Listener(frozenset(numbers), stop, unanswered)

    def put_in_front() -> None:
        # Handlers can be installed in the main thread only, and nobody may listen any more.
        if listener.in_main_thread and listener in _listeners:
            for number in numbers:
                _put_in_front(number)

    for other in tuple(_listeners):
        other.forget_if_ended()
    _listeners[listener] = None
    put_in_front()
    try:
        yield put_in_front
    finally:
        _listeners.pop(listener, None)
        listener.leave()
        if listener.in_main_thread:
            for number in numbers:
                _step_aside(number)


class _Deferral:
    """One signal that is held back, until those listeners have answered that have anyone to answer.

    Attributes:
        times: How often it has arrived since.
        passed: Whether it may go on.
    """

    def __init__(self) -> None:
        self.times = 1
        self.passed = False
        self._awaited: set[_Listener] = set()
        self._answered = threading.Event()
        self._turned = threading.Event()  # of the turn that is waited for now

    def tell(self, listeners: Collection[_Listener]) -> None:
        """Tell the listeners, and await those that have anyone to answer."""
        # All of them, before the first is told: it may have answered before the next is looked at.
        self._awaited.update(listener for listener in listeners if listener.unanswered())
        for listener in listeners:
            release = functools.partial(self._release, listener)
            if not listener.tell(release):
                release()  # whoever it could have answered has gone with its loop

    def _release(self, listener: _Listener) -> None:
        self._awaited.discard(listener)
        if not self._awaited:
            self._answered.set()
            self._turned.set()  # a loop that has ended turns no more

    def _left(self) -> int:
        return sum(listener.unanswered() for listener in tuple(self._awaited))

    def begin(self, number: int) -> bool:
        """Hold it back; return whether there is a reason to."""
        if not self._awaited:
            return False
        try:
            # `threading.Thread` takes locks that whatever was interrupted here may hold.
            _thread.start_new_thread(self._send_again, (number,))
        except RuntimeError:  # no thread can be had
            return False
        return True

    def _send_again(self, number: int) -> None:
        self._wait()
        self.passed = True
        main = threading.main_thread().ident
        if hasattr(signal, "pthread_kill") and main is not None:
            signal.pthread_kill(main, number)
        else:  # Windows
            _thread.interrupt_main(signal.Signals(number))

    def _wait(self) -> None:
        """Return when all have answered, or when no more answers go out."""
        limit, fewest, quiet_turns = time.monotonic() + MOST_SECONDS, self._left(), 0
        while quiet_turns < QUIET_TURNS and time.monotonic() < limit:
            # Turn first, and pause then: so the signal finds a loop with nothing to do asleep. What
            # a handler raises in the middle of a callback, asyncio logs and forgets.
            if not self._all_turn(limit) or self._answered.wait(ANSWER_SECONDS / QUIET_TURNS):
                return
            left = self._left()
            quiet_turns = 0 if left < fewest else quiet_turns + 1
            fewest = min(fewest, left)

    def _all_turn(self, limit: float) -> bool:
        """Whether each event loop that is waited for takes a turn in time."""
        behind = set(self._awaited)
        turned = self._turned = threading.Event()

        def turn(listener: _Listener) -> None:
            behind.discard(listener)
            if not behind:
                turned.set()

        for listener in tuple(behind):
            if not listener.at_next_turn(functools.partial(turn, listener)):
                self._release(listener)
                turn(listener)
        patience = min(BLOCKED_SECONDS, limit - time.monotonic())
        return self._answered.is_set() or turned.wait(max(0, patience))


class _Front:
    """The handler in front of another one."""

    def __init__(self, before: Handler) -> None:
        self.before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Tell the listeners, or pass on what was held back."""
        deferral = _held_back.get(self)
        if deferral is None:
            # Known before anything else: the next signal may interrupt this handler.
            deferral = _held_back[self] = _Deferral()
            deferral.tell([one for one in tuple(_listeners) if number in one.numbers])
            if not _is_of_a_loop(self.before) and deferral.begin(number):
                return
        elif not deferral.passed:
            deferral.times += 1
            return
        _held_back.pop(self, None)
        for _ in range(deferral.times):
            self.before(number, frame)


_held_back: dict[_Front, _Deferral] = {}


def _forget() -> None:
    """In a forked child: it has none of the loops and threads, and ends by its own rules."""
    _listeners.clear()
    _held_back.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _put_in_front(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    if isinstance(before, _Front) or not _is_handler(before):
        return
    signal.signal(number, _Front(before))


def _step_aside(number: signal.Signals) -> None:
    front = signal.getsignal(number)
    if not isinstance(front, _Front):  # somebody has put something else there meanwhile
        return
    if not any(one.in_main_thread and number in one.numbers for one in _listeners):
        signal.signal(number, front.before)


def _is_handler(handler: object) -> TypeGuard[Handler]:
    # Not the default action, not "ignore", not one that was installed in C.
    return callable(handler) and not isinstance(handler, signal.Handlers)


def _is_of_a_loop(handler: Handler) -> bool:
    """Whether it only stands there for a pipe, as with asyncio's `add_signal_handler`."""
    owner = getattr(handler, "__self__", None)  # uvloop's is a method of the loop
    module = getattr(handler, "__module__", None)
    return isinstance(owner, asyncio.AbstractEventLoop) or module == "asyncio.unix_events"
