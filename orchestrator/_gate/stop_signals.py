"""What a gate does at a signal that ends the process, before the server hears it.

1. `_runtime/signals.py` stands in front of the server's handler. It holds the signal back, and has
   `StopSignals` hear of it on the event loop.
2. `StopSignals` drains the service (`_core/drain.py`). First, those who are held are refused,
   unless the gate is open; later, what is open is closed. The gate's part is in `in_flight.py`.
3. Once all refusals are with the server, it passes the signal on: the server's own handler runs.
   A thread (`_runtime/deferral.py`) does so at the drain's limit, whatever has not ended by then.

Without a drain, and at SIGQUIT, it only refuses those who are held before it passes the signal on.
"""

import math
import signal
from collections.abc import Awaitable, Callable

import anyio

from orchestrator._core.feed import Subscription
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._runtime.signals import PassOn, defer_signals

_NUMBERS = tuple(
    signal.Signals[name]
    # SIGQUIT is gunicorn's quick stop; SIGBREAK exists on Windows only.
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGBREAK")
    if name in signal.Signals.__members__
)


class StopSignals:
    """Drains at a signal, and then lets the server hear it.

    Args:
        startup: The orchestrator.
        refuse_held: Refuses those who are held, where there is no drain, or it must be quick. In a
            drain the gate's `InFlight` refuses them.
        written: Returns when all of them are answered.
        unanswered: How many are to be answered. Asked in a signal handler and in other threads.
        from_thread: Whether the orchestrator may run in another thread than the main one.

    Attributes:
        put_in_front: Called to hear signals before the server, also if it has installed its
            handlers only now.
    """

    def __init__(
        self,
        startup: Orchestrator,
        refuse_held: Callable[[], Awaitable[None]],
        written: Callable[[], Awaitable[None]],
        unanswered: Callable[[], int],
        *,
        from_thread: bool = False,
    ) -> None:
        self.put_in_front: Callable[[], None] = lambda: None
        self._startup = startup
        self._refuse_held, self._written = refuse_held, written
        self._unanswered = unanswered
        self._from_thread = from_thread
        startup.drains_at_signals = True
        startup.accompany(self._hear)

    async def _hear(self, events: Subscription) -> None:
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
                unanswered=self._awaited_count,
                drain_seconds=self._startup.drain_seconds_left,
                hurry=self._startup.cut_drain_short,
                from_thread=self._from_thread,
            )
            with heard, signals, listening as self.put_in_front:
                async for _ in events:  # it ends with the start-up
                    self.put_in_front()
                tasks.cancel_scope.cancel()

    def _awaited_count(self) -> int:
        """How many are to be answered, or to be waited for in a drain. From any thread."""
        return self._unanswered() + self._startup.drain_needed()

    async def _end(self, pass_on: PassOn, number: signal.Signals) -> None:
        if number.name == "SIGQUIT" or not self._startup.drain_seconds_left():
            await self._refuse_held()
        else:
            await self._startup.drain(number.name)
        await self._written()
        pass_on()
