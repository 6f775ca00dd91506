"""An event loop in a thread of its own, for applications that have none."""

import asyncio
import atexit
import contextlib
import threading
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

from orchestrator._errors import AlreadyStarted
from orchestrator._runtime import drain_signal

# What is entered is of whatever type, and so is what it does at its end.
EnteredT = TypeVar("EnteredT", bound=AbstractAsyncContextManager[Any, Any])

_CLOSE_SECONDS = 5.0
"""Leaving takes 2 s at most. A loop that is blocked must not hold the process up."""


class LoopThread(Generic[EnteredT]):
    """Enters something asynchronous in a thread with an event loop of its own, and leaves it there.

    It may be started again after it was closed. The thread is a daemon; one that is not closed
    is closed when Python ends.

    Args:
        context: What is entered.
    """

    def __init__(self, context: EnteredT) -> None:
        self._context = context
        self._run: _Run | None = None

    def start(self) -> EnteredT:
        """Enter it; return once it is entered.

        Raises:
            AlreadyStarted: When it is started already.
            Exception: What entering raised.
        """
        if self._run is not None and self._run.thread.is_alive():
            raise AlreadyStarted(
                "this thread is already running; close it before it is started again"
            )
        drain_signal.catch()  # here, since the thread itself cannot
        self._run = run = _Run(self._context)
        try:
            run.start()
        except BaseException:
            self._run = None
            raise
        atexit.register(run.close)
        return self._context

    def close(self) -> None:
        """Leave it, and wait for the thread, for up to 5 s. Calling it twice does no harm.

        Raises:
            Exception: What leaving raised.
        """
        run, self._run = self._run, None
        if run is not None:
            atexit.unregister(run.close)
            run.close()
            if run.error is not None:
                raise run.error

    def __enter__(self) -> EnteredT:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.close()


class _Run:
    """One thread, from its beginning to its end."""

    def __init__(self, context: AbstractAsyncContextManager[Any, Any]) -> None:
        self._context = context
        self._entered = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: asyncio.Event | None = None
        self._closing = False
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._main, name="startup-orchestrator", daemon=True)

    def start(self) -> None:
        self.thread.start()
        try:
            self._entered.wait()
        except BaseException:  # Ctrl-C
            self.close()
            raise
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        self._closing = True  # first: there may be no loop yet, and it looks at this once there is
        if self._loop is not None and self._leave is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._leave.set)
        if self.thread is not threading.current_thread():  # a callback may close it
            self.thread.join(_CLOSE_SECONDS)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # it is raised by start or close
            self.error = error
        finally:
            self._entered.set()

    async def _serve(self) -> None:
        self._leave = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        if self._closing:
            return
        async with self._context:
            self._entered.set()
            await self._leave.wait()
