"""Hearing of a shutdown when it begins, and not when the last request has ended."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator
from types import FrameType


@contextlib.contextmanager
def signals_call(stop: Callable[[], None], *numbers: signal.Signals) -> Generator[None]:
    """Call `stop` on the event loop at these signals, besides whatever the server does then.

    The server's own handler is called after it, as if nothing had been put in front. A handler
    that asyncio's `add_signal_handler` installed is woken through a pipe, which stays in place.
    Where there is nothing to put this in front of (no handler, not the main thread, trio),
    nothing happens.
    """
    with contextlib.ExitStack() as installed:
        with contextlib.suppress(RuntimeError):  # no asyncio here
            loop = asyncio.get_running_loop()
            for number in numbers:
                installed.callback(_put_in_front(number, loop, stop))
        yield


def _put_in_front(
    number: signal.Signals, loop: asyncio.AbstractEventLoop, stop: Callable[[], None]
) -> Callable[[], None]:
    """Install a handler; return what takes it away again."""
    before = signal.getsignal(number)

    def handle(received: int, frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop)
        if callable(before):
            before(received, frame)

    def restore() -> None:
        # Unless the server has put something else there meanwhile.
        if signal.getsignal(number) is handle:
            signal.signal(number, before)

    if callable(before):  # else the default action ends the process, which nothing can hold up
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(number, handle)
    return restore
