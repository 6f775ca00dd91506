"""Hearing of a shutdown when it begins, and not when the last request has ended.

Servers such as uvicorn leave an application's lifespan only after every response is complete. A
stream of events has no end of its own, so one open page would keep the process alive for ever.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class ShutdownWatch:
    """Calls `stop` on the event loop at SIGTERM and SIGINT, while somebody is inside.

    The server's own handlers are called after it, as if nothing had been put in front. Where there
    is nothing to put this in front of (not the main thread, trio, no handler), nothing happens.

    Args:
        stop: Called once for each signal.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._inside = 0
        self._installed = ExitStack()

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch for as long as the block runs; any number of blocks may run at once."""
        if not self._inside:
            self._install()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._installed.close()

    def _install(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._put_in_front(number, loop)

    def _put_in_front(self, number: signal.Signals, loop: asyncio.AbstractEventLoop) -> None:
        before = signal.getsignal(number)
        if not callable(before):
            return  # the default action ends the process, which no stream can hold up

        def handle(received: int, frame: FrameType | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._stop)
            before(received, frame)

        def restore() -> None:
            # Unless somebody has put something else there meanwhile.
            if signal.getsignal(number) is handle:
                signal.signal(number, before)

        signal.signal(number, handle)
        self._installed.callback(restore)
