"""Hearing of a shutdown when it begins, and not when the last request has ended."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType


@contextlib.contextmanager
def sigterm_calls(stop: Callable[[], None]) -> Generator[None]:
    """Call `stop` on the event loop at SIGTERM, besides whatever the server does then.

    The server's own handler is called after it, as if nothing had been put in front. A handler
    that asyncio's `add_signal_handler` installed is woken through a pipe, which stays in place.
    Where there is nothing to put this in front of (no handler, not the main thread, trio),
    nothing happens.
    """
    loop = _running_loop()
    if loop is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):
        yield  # the default action ends the process at once, which nothing here can hold up
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop)
        before(number, frame)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        # Unless the server has put something else there meanwhile.
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, before)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
