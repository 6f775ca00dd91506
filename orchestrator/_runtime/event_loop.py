"""The event loop that an orchestrator runs on, as its other tasks and other threads may use it."""

import asyncio
import contextlib
import contextvars
import math
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from functools import partial
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar

import anyio

ResultT = TypeVar("ResultT")

Result = Callable[[], Coroutine[Any, Any, ResultT]]
"""What gives the result of a call."""

# Whoever waits for the task learns its result by other means.
Main = Callable[[], Coroutine[Any, Any, None]]
"""What a task of its own runs."""

_LOOK_SECONDS = 0.5
"""How often one who waits for another event loop looks whether that loop still exists."""


def _nothing() -> None:
    pass


class EventLoop:
    """The event loop that runs where this is made.

    Attributes:
        call: Calls a function on the loop soon, from any thread; raises `RuntimeError` once the
            loop has ended.
        now: Its clock, readable from any thread: monotonic seconds.
        is_closed: Whether it was closed with tasks left in it; trio ends every task first. Gates
            ask for every request.

    Raises:
        RuntimeError: Outside of an event loop.
    """

    def __init__(self) -> None:
        self.call: Callable[[Callable[[], object]], object]
        self.now: Callable[[], float]
        self.is_closed: Callable[[], bool] = bool  # never
        self._asyncio: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself keeps only weak references
        if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            self._asyncio = loop = asyncio.get_running_loop()
            # Not in the context of whoever calls, which may say that it runs on trio.
            context = contextvars.copy_context()
            self.call = partial(loop.call_soon_threadsafe, context=context)
            self.now = loop.time
            self.is_closed = loop.is_closed
            return
        from trio import lowlevel  # needed on its own event loop only

        self._current_token = lowlevel.current_trio_token
        self._token = lowlevel.current_trio_token()
        self._lowlevel = lowlevel
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
    def ended(self) -> bool:
        """Whether it can never run anything again."""
        if self._asyncio is not None:
            return self._asyncio.is_closed()
        try:
            self.call(_nothing)
        except RuntimeError:
            return True
        return False

    def spawn(
        self, main: Main, name: str, done: Callable[[], object] = _nothing
    ) -> "SpawnedTask | None":
        """Run `main` in a task that no scope, group or cancellation of the caller reaches.

        The task has a copy of the caller's context variables. On trio it is a system task: trio
        itself cancels it when the main task of `trio.run` has ended, and what it raises is dropped.

        Args:
            main: What it runs.
            name: The task's name.
            done: Called when the task has ended, also where it never got a turn.

        Returns:
            The task; `None` where the loop is ending and takes no more of them.
        """
        if self._asyncio is not None:
            task = self._asyncio.create_task(main(), name=name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(lambda _: done())
            return _AsyncioTask(task)
        return _TrioTask.begin(self._lowlevel, main, name, done)


class SpawnedTask(Protocol):
    """A task that has neither parent nor group."""

    @property
    def is_current(self) -> bool:
        """Whether it is the one that runs now."""
        ...

    def cancel(self) -> None:
        """Cancel it. On asyncio once: cancelling over and over would keep the loop busy."""
        ...

    def abandon(self) -> None:
        """Let the event loop end without it. trio waits for it whatever we do."""
        ...


class _AsyncioTask:
    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    @property
    def is_current(self) -> bool:
        return asyncio.current_task() is self._task

    def cancel(self) -> None:
        self._task.cancel()

    def abandon(self) -> None:
        # `asyncio.run` cancels all tasks that it knows and waits for each of them.
        # This function is documented, for those who write task classes of their own.
        asyncio.tasks._unregister_task(self._task)  # noqa: SLF001  there is no other way


class _TrioTask:
    def __init__(self, lowlevel: ModuleType) -> None:
        self._lowlevel = lowlevel
        self._scope = anyio.CancelScope()
        self._task: object = None

    @classmethod
    def begin(
        cls, lowlevel: ModuleType, main: Main, name: str, done: Callable[[], object]
    ) -> "_TrioTask | None":
        self = cls(lowlevel)

        async def run() -> None:
            try:
                with self._scope:
                    await main()
            except BaseException as error:
                # `main` has reported anything else, and trio would end with a TrioInternalError.
                if isinstance(error, anyio.get_cancelled_exc_class()):
                    raise
            finally:
                done()

        try:
            context = contextvars.copy_context()
            self._task = lowlevel.spawn_system_task(run, name=name, context=context)
        except RuntimeError:  # `trio.run` is past its main task
            return None
        return self

    @property
    def is_current(self) -> bool:
        return self._lowlevel.current_task() is self._task

    def cancel(self) -> None:
        self._scope.cancel()

    def abandon(self) -> None:
        pass


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
            while not done.is_set():
                with anyio.move_on_after(_LOOK_SECONDS):
                    await done.wait()
                self._give_up_without_loop()
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
        until = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._begin()
        try:
            while not self._outcome.done() and (left := until - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    self._outcome.exception(min(left, _LOOK_SECONDS))
                self._give_up_without_loop()
            return self._outcome.result(0)
        except BaseException:
            self._cancel()
            raise

    def _give_up_without_loop(self) -> None:
        """A loop that was closed before our turn in it has not said so."""
        if self._loop.ended:
            self._outcome.cancel()

    def _begin(self) -> None:
        def begin() -> None:
            name = "startup-orchestrator call"
            if self._loop.spawn(self._run, name, self._outcome.cancel) is None:
                self._outcome.cancel()

        try:
            self._loop.call(begin)
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


__all__ = ["Call", "CancelledError", "EventLoop", "Main", "SpawnedTask"]
