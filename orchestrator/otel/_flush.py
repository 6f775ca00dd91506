"""Sends what providers hold back, without ever holding up the event loop for long."""

import time
from collections.abc import Iterable
from threading import Thread, current_thread

from orchestrator._hardening.log_thread import logger

_LEAVING_SECONDS = 0.6
"""How long the orchestrator's end may wait for the collector. With the shutdown of
`setup_telemetry` after it, an exit still takes less than 2 s longer."""


class Flusher:
    """Flushes providers in threads that hold nothing up.

    A batch of spans waits for company, and metrics for the minute to be over. But a process whose
    start failed does not live that long, and uvicorn ends itself by the signal that it was sent, so
    that nothing registered for the interpreter's exit is run.
    """

    def __init__(self) -> None:
        self._threads: list[Thread] = []

    def begin(self, providers: Iterable[object]) -> None:
        """Begin to send what these hold; those of the API alone hold nothing."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for provider in providers:
            flush = getattr(provider, "force_flush", None)
            if callable(flush):
                thread = Thread(target=_call, args=(flush,), name="telemetry-flush", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # Python 3.12 starts no thread while it ends
                    if current_thread().daemon:  # the writer's own, which holds nothing up
                        _call(flush)
                else:
                    self._threads.append(thread)

    def wait(self) -> None:
        """Wait until it is sent, for a bounded time."""
        deadline = time.monotonic() + _LEAVING_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _call(flush: object) -> None:
    try:
        if callable(flush):
            flush()
    except Exception as error:  # a provider that cannot flush must not break the end
        # Only the type: the text may hold the collector's address with a password in it.
        logger.debug("a provider could not be flushed: %s", type(error).__name__)
