"""The event loop that an orchestrator runs on, as its other tasks and other threads may use it."""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, Generic, TypeVar

import anyio

ResultT = TypeVar("ResultT")

Result = Callable[[], Coroutine[Any, Any, ResultT]]
"""What gives the result of a call."""

# Who waits for the task is told by other means, so it gives nothing.
Main = Callable[[], Coroutine[Any, Any, None]]
"""What a task of its own runs."""


class EventLoop:
    """The event loop that runs where this is made.

    Attributes:
        call: Calls a function on the loop soon, from any thread; raises `RuntimeError` once the
            loop has ended.
        now: Its clock, readable from any thread: monotonic seconds.

    Raises:
        RuntimeError: Outside of an event loop.
    """

    def __init__(self) -> None:
        self.call: Callable[[Callable[[], object]], object]
        self.now: Callable[[], float]
        self._asyncio: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself keeps only weak references
        if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            self._asyncio = loop = asyncio.get_running_loop()
            # Not in the context of whoever calls, which may say that it runs on trio.
            context = contextvars.copy_context()
            self.call = partial(loop.call_soon_threadsafe, context=context)
            self.now = loop.time
            return
        from trio import lowlevel  # needed on its own event loop only

        self._current_token = lowlevel.current_trio_token
        self._token = lowlevel.current_trio_token()
        self._spawn = lowlevel.spawn_system_task
        self.call = self._token.run_sync_soon
        self.now = lowlevel.current_clock().current_time

    @property
    def is_current(self) -> bool:
        """Whether it runs in this thread now: in a task, or in a plain callback of the loop."""
        try:
            if self._asyncio is not None:
                return asyncio.get_running_loop() is self._asyncio
            return self._current_token() is self._token
        except RuntimeError:
            return False

    @property
    def in_task(self) -> bool:
        """Whether one of its tasks runs in this thread now."""
        if not self.is_current:
            return False
        return self._asyncio is None or asyncio.current_task(self._asyncio) is not None

    @property
    def ended(self) -> bool:
        """Whether it can never run anything again."""
        if self._asyncio is not None:
            return self._asyncio.is_closed()
        try:
            self.call(_nothing)
        except RuntimeError:
            return True
        return False

    def spawn(self, main: Main, name: str) -> None:
        """Run `main` in a task that no scope, group or cancellation of the caller reaches.

        The task has a copy of the caller's context variables. `main` must not raise. On trio it is
        a system task: trio itself cancels it when the main task of `trio.run` has ended.
        """
        if self._asyncio is not None:
            task = self._asyncio.create_task(main(), name=name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._spawn(main, name=name, context=contextvars.copy_context())


class Call(Generic[ResultT]):
    """A call of an async function on an event loop, made by another thread.

    Args:
        function: What is called there.
        loop: The loop.
    """

    def __init__(self, function: Result[ResultT], loop: EventLoop) -> None:
        self._function = function
        self._loop = loop
        self._scope: anyio.CancelScope | None = None
        self._cancelled = False
        self._outcome: Future[ResultT] = Future()

    async def wait(self) -> ResultT:
        """Make the call from a task of another event loop, and wait for its result.

        Raises:
            concurrent.futures.CancelledError: When the loop, or what runs on it, ends before that.
        """
        here, done = EventLoop(), anyio.Event()

        def finish(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # whoever waited has gone, and its loop too
                here.call(done.set)

        self._outcome.add_done_callback(finish)
        self._begin()
        try:
            await done.wait()
        except BaseException:
            self._cancel()
            raise
        return self._outcome.result()

    def wait_blocking(self, timeout_seconds: float | None) -> ResultT:
        """Make the call from a thread without an event loop, and block until its result is there.

        Raises:
            TimeoutError: When it is not there in time.
            concurrent.futures.CancelledError: When the loop, or what runs on it, ends before that.
        """
        self._begin()
        try:
            return self._outcome.result(timeout_seconds)
        except BaseException:
            self._cancel()
            raise

    def _begin(self) -> None:
        try:
            self._loop.call(lambda: self._loop.spawn(self._run, "startup-orchestrator call"))
        except RuntimeError:
            self._outcome.cancel()

    def _cancel(self) -> None:
        def cancel() -> None:
            self._cancelled = True
            if self._scope is not None:
                self._scope.cancel()

        with contextlib.suppress(RuntimeError):
            self._loop.call(cancel)

    async def _run(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                if not self._cancelled:
                    self._outcome.set_result(await self._function())
        except Exception as error:  # it is the caller's
            self._outcome.set_exception(error)
        finally:
            self._outcome.cancel()  # it was cut short, unless there is an outcome


def _nothing() -> None:
    pass


__all__ = ["Call", "CancelledError", "EventLoop", "Main"]
