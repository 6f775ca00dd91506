"""A shutdown as the gate sees it: it drains before the server hears of it."""

import math
import signal
from collections.abc import Callable

import anyio
import anyio.lowlevel

from orchestrator._core.feed import Subscription
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.admission import Admission
from orchestrator._runtime.signals import PassOn, defer_signals

_NUMBERS = tuple(
    signal.Signals[name]
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGBREAK")  # gunicorn's quick stop; Windows
    if name in signal.Signals.__members__
)

_TURNS = 10
"""Some servers and middlewares hand a message over to a task of their own, which writes it. Each of
them takes one turn of the event loop, or two."""


class Shutdown:
    """Counts the requests that are not decided yet: each is inside of this context manager.

    Args:
        startup: The orchestrator.
        admission: Refuses what it holds when a signal arrives.
        on_signals: Whether signals are listened to.

    Attributes:
        put_in_front: Hears signals before a server that has installed its handlers since.
    """

    def __init__(self, startup: Orchestrator, admission: Admission, *, on_signals: bool) -> None:
        self.put_in_front: Callable[[], None] = lambda: None
        self._startup = startup
        self._admission = admission
        self._unanswered = 0
        self._all_answered = anyio.Event()
        if on_signals:
            startup.drains_at_signals = True
            startup.accompany(self._hear_signals)

    def __enter__(self) -> None:
        """One more."""
        self._unanswered += 1

    def __exit__(self, *_error: object) -> None:
        """It is answered or admitted."""
        self._unanswered -= 1
        if not self._unanswered:
            self._all_answered.set()

    async def _hear_signals(self, events: Subscription) -> None:
        """Runs beside the start-up."""
        stream = anyio.create_memory_object_stream[tuple[PassOn, signal.Signals]](math.inf)
        heard, signals = stream

        def hear(pass_on: PassOn, number: signal.Signals) -> None:
            heard.send_nowait((pass_on, number))

        async with anyio.create_task_group() as tasks:

            async def end() -> None:
                async for pass_on, number in signals:
                    tasks.start_soon(self._end, pass_on, number)

            tasks.start_soon(end)
            listening = defer_signals(
                hear,
                *_NUMBERS,
                unanswered=self._left,
                drain_seconds=self._startup.drain_seconds_left,
                hurry=self._startup.cut_drain_short,
            )
            with heard, signals, listening as self.put_in_front:
                async for _ in events:  # its end matters, and a server may have come since
                    self.put_in_front()
                tasks.cancel_scope.cancel()

    def _left(self) -> int:
        """How many are to be answered, or to be waited for in a drain. From any thread."""
        return self._unanswered + self._startup.drain_needed()

    async def _end(self, pass_on: PassOn, number: signal.Signals) -> None:
        if number.name == "SIGQUIT" or not self._startup.drain_seconds_left():
            await self._admission.stop_bit_by_bit()
        else:
            await self._startup.drain(number.name)
        await self.written()
        pass_on()

    async def written(self) -> None:
        """Wait until all of them are answered, and the answers are with the transports."""
        while self._unanswered:
            self._all_answered = anyio.Event()
            await self._all_answered.wait()
        for _ in range(_TURNS):
            await anyio.lowlevel.checkpoint()
