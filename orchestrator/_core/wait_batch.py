"""Tasks waiting for the same thing, resumed through the public API of their event loop.

An event object of the event loop resumes all waiting tasks at once, and on asyncio leaving one
takes time in proportion to their number. So the feed keeps them in small batches, and resumes one
batch after the other.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import anyio

from states import StageChanged

if TYPE_CHECKING:
    import trio

Waiting = Awaitable[StageChanged | None]
"""What a waiting task awaits: the event, or `None` if the task has to look it up."""


class WaitBatch(Protocol):
    """A few waiting tasks."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def join(self) -> Waiting:
        """Add a task; return what it has to await, at once."""
        ...

    def leave(self, waiting: Waiting) -> None:
        """Remove a task that no longer awaits what `join` gave. Calling it twice does no harm."""
        ...

    def resume(self, event: StageChanged | None) -> int:
        """Resume all of them in the loop's next turn, and return how many; it is empty then."""
        ...


class AsyncioWaitBatch:
    """On asyncio: a future for each, with no coroutine in between."""

    __slots__ = ("_create", "_futures")

    def __init__(self, create: Callable[[], asyncio.Future[StageChanged | None]]) -> None:
        self._create = create
        self._futures: dict[Waiting, asyncio.Future[StageChanged | None]] = {}

    def __len__(self) -> int:
        return len(self._futures)

    def join(self) -> Waiting:
        """A future."""
        future = self._create()
        self._futures[future] = future
        return future

    def leave(self, waiting: Waiting) -> None:
        """Forget it."""
        self._futures.pop(waiting, None)

    def resume(self, event: StageChanged | None) -> int:
        """Give all of them the event."""
        futures, self._futures = self._futures, {}
        for future in futures.values():
            if not future.done():  # it may be cancelled, and its task not have run yet
                future.set_result(event)
        return len(futures)


class TrioWaitBatch:
    """On trio: the tasks themselves, by what each of them awaits."""

    __slots__ = ("_current", "_reschedule", "_succeeded", "_tasks", "_wait")

    def __init__(self, lowlevel: ModuleType) -> None:
        self._current = lowlevel.current_task
        self._wait = lowlevel.wait_task_rescheduled
        self._reschedule = lowlevel.reschedule
        self._succeeded: trio.lowlevel.Abort = lowlevel.Abort.SUCCEEDED
        self._tasks: dict[Waiting, trio.lowlevel.Task] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def join(self) -> Waiting:
        """A coroutine that ends when the task is rescheduled."""

        def abort(_: object) -> "trio.lowlevel.Abort":
            self.leave(waiting)  # now: a task must not be rescheduled twice
            return self._succeeded

        waiting: Waiting = self._wait(abort)
        self._tasks[waiting] = self._current()
        return waiting

    def leave(self, waiting: Waiting) -> None:
        """Forget it."""
        self._tasks.pop(waiting, None)

    def resume(
        self, event: StageChanged | None
    ) -> int:  # trio cannot give one outcome to many: they have to look
        """Reschedule all of them."""
        tasks, self._tasks = self._tasks, {}  # one that is cancelled now must stay scheduled
        reschedule = self._reschedule
        for task in tasks.values():
            reschedule(task)
        return len(tasks)


def batch_maker() -> Callable[[], WaitBatch]:
    """What makes batches for tasks of the event loop that runs here."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return partial(AsyncioWaitBatch, asyncio.get_running_loop().create_future)
    from trio import lowlevel  # needed on its own event loop only

    return partial(TrioWaitBatch, lowlevel)
