"""A shutdown as the ASGI gate sees it: the service drains before the server hears the signal.

`_gate/stop_signals.py` has the order of events. This says when all refusals are with the server.
"""

import anyio
import anyio.lowlevel

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.admission import Admission
from orchestrator._gate.stop_signals import StopSignals

_TURNS = 10
"""Some servers and middlewares hand a message over to a task of their own, which writes it. Each of
them takes one turn of the event loop, or two."""


class Shutdown:
    """Counts the requests that are not decided yet: each is inside of this context manager.

    Args:
        startup: The orchestrator.
        admission: Refuses what it holds when a signal arrives.
        on_signals: Whether signals are listened to.
    """

    def __init__(self, startup: Orchestrator, admission: Admission, *, on_signals: bool) -> None:
        self._unanswered = 0
        self._all_answered = anyio.Event()
        self._signals: StopSignals | None = None
        if on_signals:
            refuse_held = admission.stop_bit_by_bit
            self._signals = StopSignals(
                startup, refuse_held, self.written, lambda: self._unanswered
            )

    def put_in_front(self) -> None:
        """Hear signals before the server, also if it has installed its handlers only now."""
        if self._signals is not None:
            self._signals.put_in_front()

    def __enter__(self) -> None:
        """One more."""
        self._unanswered += 1

    def __exit__(self, *_error: object) -> None:
        """It is answered or admitted."""
        self._unanswered -= 1
        if not self._unanswered:
            self._all_answered.set()

    async def written(self) -> None:
        """Wait until all of them are answered, and the answers are with the transports."""
        while self._unanswered:
            if self._all_answered.is_set():  # another signal may wait for the one that is there
                self._all_answered = anyio.Event()
            await self._all_answered.wait()
        for _ in range(_TURNS):
            await anyio.lowlevel.checkpoint()
