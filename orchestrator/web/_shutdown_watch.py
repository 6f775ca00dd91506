"""Hearing of a shutdown when it begins, and not when the last request has ended.

Servers such as uvicorn leave an application's lifespan only after every response is complete. A
stream of events has no end of its own, so one open page would keep the process alive for ever.
"""

import signal
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager

from orchestrator._runtime.signals import Release, call_on_signal

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShutdownWatch:
    """Calls `stop` on the event loop at SIGTERM and SIGINT, while somebody is inside.

    Args:
        stop: Called once for each signal.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._inside = 0
        self._installed = ExitStack()

    def _call(self, release: Release, _: signal.Signals) -> None:
        self._stop()
        release()

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch for as long as the block runs; any number of blocks may run at once."""
        if not self._inside:
            self._installed.enter_context(call_on_signal(self._call, *_SIGNALS))
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._installed.close()
