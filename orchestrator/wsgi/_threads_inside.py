"""The drain of a WSGI application: counts the requests in the server's threads.

The server keeps accepting while the gate holds its signal back, so a drain has all its phases,
except that there are no WebSockets to close. `Connection: close` is up to the server: PEP 3333
forbids it to applications. gunicorn can be asked for it; its sync worker and uWSGI keep no
connection open.
"""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterable
from functools import partial

import anyio
import anyio.lowlevel

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.stop_signals import StopSignals
from orchestrator._runtime.event_loop import EventLoop
from orchestrator.wsgi._wsgi_responses import StreamedBody


class ThreadsInside:
    """The requests that the application works on, each in a thread of the server.

    It takes part in the drains of the start-up. What bypasses the gate is not waited for.

    Args:
        startup: The orchestrator.
        wake: Has every held request decided again.

    Attributes:
        inside: How many there are.
        answering: How many wait for a decision, or for their refusal to be written.
    """

    def __init__(self, startup: Orchestrator, wake: Callable[[], None]) -> None:
        self._startup = startup
        self._wake = wake
        self._signals: StopSignals | None = None
        self.begin_anew()
        startup.drain_with(self)

    def begin_anew(self) -> None:
        """This is a new process: nothing runs in it yet."""
        self.inside = 0
        self.answering = 0
        self._lock = threading.Lock()
        self._look_again: Callable[[], object] | None = None

    def hear_signals(self) -> None:
        """Drain at SIGTERM and SIGINT, before the server hears them."""
        self._signals = StopSignals(
            self._startup,
            self.drain_announced,
            self._answered,
            lambda: self.answering,
            from_thread=True,
        )

    def put_in_front(self) -> None:
        """Hear signals before a server that has installed its handlers since."""
        if self._signals is not None:
            self._signals.put_in_front()

    # -- requests ----------------------------------------------------------------------------------

    def enter(self) -> None:
        """One more that the application works on."""
        with self._lock:
            self.inside += 1

    def leave(self) -> None:
        """It has ended."""
        with self._lock:
            self.inside -= 1
            look_again = self._look_again
        _call(look_again)

    @contextlib.contextmanager
    def deciding(self) -> Generator[None]:
        """One more that waits for a decision."""
        with self._lock:
            self.answering += 1
        try:
            yield
        finally:
            with self._lock:
                self.answering -= 1
                look_again = self._look_again
            _call(look_again)

    def until_sent(self, body: Iterable[bytes], wrapper: object) -> Iterable[bytes]:
        """The body of a response; the request ends once all of it is sent.

        Args:
            body: The body.
            wrapper: The server's `wsgi.file_wrapper`; the server must get what this made as it is.
        """
        # uWSGI's is not a class, and it recognises what it made by identity.
        is_files = isinstance(body, wrapper) if isinstance(wrapper, type) else wrapper is not None
        if is_files or isinstance(body, list | tuple):
            self.leave()
            return body
        return StreamedBody(body, self.leave)

    # -- the drain ---------------------------------------------------------------------------------

    @property
    def awaits(self) -> bool:
        """There is nothing else."""
        return False

    async def drain_announced(self) -> None:
        """Those who are held will not be served any more, unless they are let in just now."""
        self._wake()
        await anyio.lowlevel.checkpoint()

    async def wind_down(self, close_seconds: float) -> None:
        """Take nothing new, and wait for all that runs."""
        await self.drain_announced()
        await self._until(lambda: not self.inside)

    async def _answered(self) -> None:
        await self._until(lambda: not self.answering)

    async def _until(self, done: Callable[[], bool]) -> None:
        loop = EventLoop()
        while True:
            changed = anyio.Event()
            with self._lock:
                if done():
                    return
                self._look_again = partial(loop.call, changed.set)
            await changed.wait()


def _call(look_again: Callable[[], object] | None) -> None:
    if look_again is not None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            look_again()
