"""Hearing of a shutdown before the last request has ended: in a drain, once nothing new is taken.

Servers such as uvicorn leave an application's lifespan only after every response is complete. A
stream of events has no end of its own, so one open page would keep the process alive for ever.
"""

import signal
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._runtime.signals import PassOn, defer_signals

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShutdownWatch:
    """Calls `stop` on the event loop in a drain, and else at SIGTERM and SIGINT.

    Args:
        startup: The orchestrator; it takes part in its drains. `None` where there is none.
        stop: Called once for each signal, and for each drain.

    Attributes:
        inside: 0, since no drain has to wait for what ends by itself.
    """

    inside = 0

    def __init__(self, startup: Orchestrator | None, stop: Callable[[], None]) -> None:
        self._startup = startup
        self._stop = stop
        self._inside = 0
        self._installed = ExitStack()
        if startup is not None:
            startup.drain_with(self)

    @property
    def awaits(self) -> bool:
        """There is nothing else."""
        return False

    async def drain_announced(self) -> None:
        """The streams go on, and show it."""

    async def wind_down(self, _: float) -> None:
        """They would have no end of their own."""
        self._stop()

    def _call(self, pass_on: PassOn, _: signal.Signals) -> None:
        if (
            self._startup is None or not self._startup.drain_needed()
        ):  # else it is under way, or about to begin
            self._stop()
        pass_on()

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch for as long as the block runs; any number of blocks may run at once."""
        if not self._inside:
            self._installed.enter_context(defer_signals(self._call, *_SIGNALS))
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._installed.close()
