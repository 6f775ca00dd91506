"""Hears of a shutdown when it begins, and holds it back until clients who wait are answered.

A server that hears SIGTERM cuts off, in its own way and at its own time, whoever has no answer yet:
uvicorn answers every open handshake with a 500 within 0.1 s. So a handler of ours stands in front
of the server's own. It notifies the listeners, which are the gates (`_gate/stop_signals.py`). It
passes the signal on when they have answered, or when no more answers go out, so that nothing they
do holds a shutdown up.

Where a listener drains, the signal is held back until that is over, and for the time of the drain
at most, whether or not the event loop turns: a thread sees to it (`deferral.py`). One stop often
arrives as several signals, from a supervisor, a process group and a terminal. They belong to one
drain; the server hears only the first, once. Two signals are clearly meant, and cut it short:
SIGQUIT, and a second SIGINT that comes later than a machine would send it.

Whether answers still go out is measured in turns of the event loop, not by the clock alone: on a
machine that is overloaded a second may pass between two answers, or before the first.

There is one set of listeners for the process, which come and go in any order, and one handler in
front of each one that others have installed. A signal is passed on by sending it to the main thread
once more. So the server's handler runs where it would have run, in the main thread, even if the
event loop is blocked, and what it raises comes out there.
"""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType
from typing import TypeGuard

from orchestrator._runtime import main_thread
from orchestrator._runtime.deferral import (
    Deferral,
    OnSignal,
    PassOn,
    SignalListener,
    listeners,
    sending,
)

__all__ = ["PassOn", "defer_signals"]

SignalHandler = Callable[[int, FrameType | None], object]


@contextlib.contextmanager
def defer_signals(
    stop: OnSignal,
    *numbers: signal.Signals,
    unanswered: Callable[[], int] = lambda: 0,
    drain_seconds: Callable[[], float] = lambda: 0.0,
    hurry: Callable[[str], object] = lambda _: None,
    from_thread: bool = False,
) -> Generator[Callable[[], None]]:
    """Call `stop` on the event loop at these signals, before the server's own handler runs.

    A signal that is ignored, or whose default action ends the process, is left as it is; so are
    all of them outside the main thread, unless something has put a handler in front there. A
    handler that asyncio's `add_signal_handler` installed is woken through a pipe, which stays in
    place: it is not held back.

    Args:
        stop: Called with what it has to call once everybody is answered, and with the signal.
        *numbers: The signals.
        unanswered: How many are to be answered. Asked in a signal handler and in another thread; if
            there are none, the signal is passed on at once.
        drain_seconds: How long it drains at most; 0 if it only answers. Asked in a signal handler.
        hurry: Called with the reason, in a signal handler, when a drain is cut short.
        from_thread: Whether the main thread is asked to put handlers in front, if this is another
            one; it does so soon, if it `can_be_asked`. Else another thread installs nothing.

    Yields:
        A function that takes the place in front again, for where a server has installed its
        handlers only after that.
    """
    installs = from_thread or threading.current_thread() is threading.main_thread()
    listener = SignalListener(
        frozenset(numbers), stop, unanswered, drain_seconds, hurry, installs=installs
    )

    def install() -> None:
        if listener in listeners:  # no one may listen any more
            for number in numbers:
                _put_in_front(number)

    def put_in_front() -> None:
        if installs and any(_can_be_behind(signal.getsignal(number)) for number in numbers):
            main_thread.do(install)

    def step_aside() -> None:
        for number in numbers:
            _step_aside(number)

    for other in tuple(listeners):
        other.forget_if_ended()
    listeners[listener] = None
    put_in_front()
    try:
        yield put_in_front
    finally:
        listeners.pop(listener, None)
        listener.leave()
        if installs:
            main_thread.do(step_aside)


class _Front:
    """The handler in front of another one."""

    def __init__(self, before: SignalHandler) -> None:
        self.before = before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Tell the listeners, or pass on what was held back."""
        deferral = _held_back.get(self)
        with sending:  # so one that arrives while it is sent on is seen as that one
            pass
        if deferral is not None and deferral.heard:
            return  # a handler that has interrupted this one was quicker
        if (deferral is None or not deferral.passed) and _drained_already(self, number, frame):
            return
        if deferral is None:
            # Known before anything else: the next signal may interrupt this handler.
            deferral = _held_back[self] = Deferral(number)
            deferral.notify_listeners([one for one in tuple(listeners) if number in one.numbers])
            if not _is_of_a_loop(self.before) and deferral.begin():
                return
        elif not deferral.passed:
            deferral.times += 1
            return
        _held_back.pop(self, None)
        deferral.heard = True
        # One may also have come before it was known that there is a drain to take it for.
        for _ in range(1 if deferral.drains else deferral.times):
            self.before(number, frame)


_held_back: dict[_Front, Deferral] = {}


def _drained_already(front: _Front, number: int, frame: FrameType | None) -> bool:
    """Whether a drain is under way, so that this signal belongs to it, or has cut it short."""
    draining = ((one, held) for one, held in tuple(_held_back.items()) if held.drains)
    first, deferral = next(draining, (front, None))
    if deferral is None or deferral.passed:
        return False
    if deferral.is_meant(number):
        deferral.cut_short(number)
        _held_back.pop(first, None)
        first.before(deferral.number, frame)
        front.before(number, frame)
    return True


def _forget() -> None:
    """In a forked child: it has none of the loops and threads, and ends by its own rules."""
    listeners.clear()
    _held_back.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _put_in_front(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    if _can_be_behind(before):
        signal.signal(number, _Front(before))


def _step_aside(number: signal.Signals) -> None:
    front = signal.getsignal(number)
    if not isinstance(front, _Front):  # someone has put something else there meanwhile
        return
    if not any(one.installs and number in one.numbers for one in listeners):
        signal.signal(number, front.before)


def _can_be_behind(handler: object) -> TypeGuard[SignalHandler]:
    # Not ours, not the default action, not "ignore", not one that was installed in C.
    return callable(handler) and not isinstance(handler, signal.Handlers | _Front)


def _is_of_a_loop(handler: SignalHandler) -> bool:
    """Whether it only stands there for a pipe, as with asyncio's `add_signal_handler`."""
    owner = getattr(handler, "__self__", None)  # uvloop's is a method of the loop
    module = getattr(handler, "__module__", None)
    return isinstance(owner, asyncio.AbstractEventLoop) or module == "asyncio.unix_events"
