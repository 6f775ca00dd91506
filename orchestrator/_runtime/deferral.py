"""A signal that is held back until those who listen have answered, or drained.

The handler in `signals.py` makes a `Deferral`, which notifies the listeners: the gates, through
`_gate/stop_signals.py`. A thread waits until all have passed the signal on, or their time is up,
and sends it to the main thread once more; the handler then calls the server's own.
"""

import _thread
import functools
import signal
import threading
import time
from collections.abc import Callable, Collection

from orchestrator._runtime.event_loop import EventLoop

ANSWER_SECONDS = 0.3
"""How long a signal is held back while no answer goes out, if the event loop turns meanwhile."""

QUIET_TURNS = 10
"""How often the event loop must turn in that time. An answer takes about eight turns."""

BLOCKED_SECONDS = 3.0
"""How long it is held back by an event loop that does not turn. It is blocked, or it gets no share
of the processor: that cannot be seen from outside. A server that acts on its signal in the event
loop, as uvicorn does, loses nothing by this."""

MOST_SECONDS = 8.0
"""How long it is held back at most, while answers go out one by one. The shortest time that
platforms give between SIGTERM and SIGKILL is 10 s (`docker stop`, Cloud Run)."""

MEANT_SECONDS = 1.0
"""How long after the first SIGINT a second one is meant to cut a drain short. A supervisor or a
process group sends the same signal again within milliseconds."""

sending = threading.RLock()
"""Held while a signal is sent on. A handler that waits for it knows whether it is that one which
it hears; reentrant, since handlers interrupt each other in the main thread."""

PassOn = Callable[[], None]
"""Says that a listener has answered; the signal may go on as far as it is concerned."""

OnSignal = Callable[[PassOn, signal.Signals], object]
"""Hears of a signal."""


class SignalListener:
    """A listener for signals, on an event loop of its own.

    Attributes:
        installs: Whether handlers are put in front of the server's for it.
    """

    def __init__(
        self,
        numbers: frozenset[signal.Signals],
        stop: OnSignal,
        unanswered: Callable[[], int],
        drain_seconds: Callable[[], float],
        hurry: Callable[[str], object],
        *,
        installs: bool,
    ) -> None:
        self.numbers = numbers
        self.unanswered = unanswered
        self.drain_seconds = drain_seconds
        self.hurry = hurry
        self.installs = installs
        self._stop = stop
        self._loop = EventLoop()
        self._to_pass_on: list[PassOn] = []

    def notify(self, pass_on: PassOn, number: int) -> bool:
        """Have `stop` called, from any thread or a signal handler; False if the loop has ended."""
        self._to_pass_on.append(pass_on)
        return self.at_next_turn(functools.partial(self._call, pass_on, signal.Signals(number)))

    def _call(self, pass_on: PassOn, number: signal.Signals) -> None:
        if self in listeners:
            self._stop(pass_on, number)

    def at_next_turn(self, call: Callable[[], None]) -> bool:
        """Call it on the loop, from any thread. False if the loop has ended: it listens no more."""
        try:
            self._loop.call(call)
        except RuntimeError:
            listeners.pop(self, None)
            return False
        return True

    def forget_if_ended(self) -> None:
        """Keep nothing alive for a loop that was given up without an end."""
        if self._loop.ended:
            listeners.pop(self, None)

    def leave(self) -> None:
        """Hold no signal back any more."""
        for pass_on in self._to_pass_on:
            pass_on()


listeners: dict[SignalListener, None] = {}


class Deferral:
    """One signal that is held back, until those listeners have answered that have anyone to answer.

    Attributes:
        times: How often it has arrived since.
        passed: Whether it may go on.
        heard: Whether the server's handler was called for it.
        drains: Whether it waits for a drain, and not only for answers.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.times = 1
        self.passed = self.heard = False
        self.drains = False
        self._drain_until = 0.0
        self._overtaken = False
        self._interrupted_at: float | None = None
        self._awaited: set[SignalListener] = set()
        self._answered = threading.Event()
        self._turned = threading.Event()  # of the turn that is waited for now

    def notify_listeners(self, listeners: Collection[SignalListener]) -> None:
        """Notify the listeners, and await those that have anyone to answer."""
        # All of them, before the first hears of it, which may answer before the next is seen.
        self._awaited.update(listener for listener in listeners if listener.unanswered())
        seconds = max((one.drain_seconds() for one in self._awaited), default=0.0)
        if seconds and not _is_quit(self.number):
            self.drains, self._drain_until = True, time.monotonic() + seconds
            self.is_meant(self.number)
        for listener in listeners:
            pass_on = functools.partial(self._has_answered, listener)
            if not listener.notify(pass_on, self.number):
                pass_on()  # whoever it could have answered has gone with its loop

    def _has_answered(self, listener: SignalListener) -> None:
        self._awaited.discard(listener)
        if not self._awaited:
            self._answered.set()
            self._turned.set()  # a loop that has ended turns no more

    def _unanswered_count(self) -> int:
        return sum(listener.unanswered() for listener in tuple(self._awaited))

    def is_meant(self, number: int) -> bool:
        """Whether a signal that arrives in the drain is clearly meant to cut it short."""
        if number != signal.SIGINT:
            return _is_quit(number)
        now, before = time.monotonic(), self._interrupted_at
        if before is None:
            self._interrupted_at = now
        return before is not None and now - before >= MEANT_SECONDS

    def cut_short(self, number: int) -> None:
        """Wait no more, and send nothing: it is passed on here and now."""
        self._overtaken = self.passed = True
        for listener in tuple(self._awaited):
            listener.hurry(signal.Signals(number).name)
        self._answered.set()

    def begin(self) -> bool:
        """Hold it back; return whether there is a reason to."""
        if not self._awaited:
            return False
        try:
            # `threading.Thread` takes locks that whatever was interrupted here may hold.
            _thread.start_new_thread(self._send_again, (self.number,))
        except RuntimeError:  # no thread can be had
            return False
        return True

    def _send_again(self, number: int) -> None:
        if self.drains:
            self._answered.wait(max(0.0, self._drain_until - time.monotonic()))
        else:
            self._wait()
        with sending:
            if self._overtaken:
                return
            self.passed = True
            main = threading.main_thread().ident
            if hasattr(signal, "pthread_kill") and main is not None:
                signal.pthread_kill(main, number)
            else:  # Windows
                _thread.interrupt_main(signal.Signals(number))

    def _wait(self) -> None:
        """Return when all have answered, or when no more answers go out."""
        limit, fewest, quiet_turns = time.monotonic() + MOST_SECONDS, self._unanswered_count(), 0
        while quiet_turns < QUIET_TURNS and time.monotonic() < limit:
            # Turn first, and pause then: so the signal finds a loop with nothing to do asleep. What
            # a handler raises in the middle of a callback, asyncio logs and forgets.
            if not self._all_turn(limit) or self._answered.wait(ANSWER_SECONDS / QUIET_TURNS):
                return
            left = self._unanswered_count()
            quiet_turns = 0 if left < fewest else quiet_turns + 1
            fewest = min(fewest, left)

    def _all_turn(self, limit: float) -> bool:
        """Whether each event loop that is waited for takes a turn in time."""
        behind = set(self._awaited)
        turned = self._turned = threading.Event()

        def turn(listener: SignalListener) -> None:
            behind.discard(listener)
            if not behind:
                turned.set()

        for listener in tuple(behind):
            if not listener.at_next_turn(functools.partial(turn, listener)):
                self._has_answered(listener)
                turn(listener)
        patience = min(BLOCKED_SECONDS, limit - time.monotonic())
        return self._answered.is_set() or turned.wait(max(0, patience))


def _is_quit(number: int) -> bool:
    """Whether it is SIGQUIT, which Windows does not know: it asks for a quick end."""
    return signal.Signals(number).name == "SIGQUIT"
