"""Waiting that can be ended from outside, at next to no cost while it is not.

A cancel scope for each message that a WebSocket waits for would take 2 KB for as long as it waits,
which is most of the time, and as long to make as the rest of what a gate does. On asyncio the task
is cancelled instead, and the cancellation taken back where it arrives.
"""

import asyncio
from types import TracebackType
from typing import Protocol

import anyio


class Interruptible(Protocol):
    """A context manager; `interrupt` ends every block of it that is waiting, without an error."""

    def __enter__(self) -> None:
        """Wait inside."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        """Whether it ended because it was interrupted."""
        ...

    def interrupt(self) -> None:
        """End the waiting."""
        ...


class TasksInside:
    """`Interruptible` on asyncio.

    For each message of a WebSocket the two calls of a `with` cost more than what they do. So such a
    block may be written out: the task is added to `inside`, and removed from it where nothing was
    raised; otherwise, and where `interrupted` is not `None`, `left` does it and answers as
    `__exit__` does.

    Attributes:
        inside: Those that wait; `None` stands for what runs in no task.
        interrupted: Those that were interrupted, and how often they were cancelled before.
    """

    __slots__ = ("inside", "interrupted")

    def __init__(self) -> None:
        self.inside: list[asyncio.Task[object] | None] = []  # one, as a rule
        self.interrupted: dict[asyncio.Task[object], int] | None = None

    def __enter__(self) -> None:
        self.inside.append(asyncio.current_task())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if kind is GeneratorExit:  # there may be no event loop any more
            return False
        return self.left(asyncio.current_task(), kind)

    def left(
        self, task: asyncio.Task[object] | None, kind: type[BaseException] | None = None
    ) -> bool:
        """A block has ended in this task, which runs now; whether it was interrupted."""
        if kind is GeneratorExit:
            return False
        self.inside.remove(task)
        if task is None or self.interrupted is None or task not in self.interrupted:
            return False
        before = self.interrupted.pop(task)
        task.uncancel()
        # Whoever has cancelled it as well is not to be robbed of it.
        return kind is asyncio.CancelledError and task.cancelling() <= before

    def interrupt(self) -> None:
        """End the waiting."""
        tasks = [task for task in self.inside if task is not None]
        self.interrupted = {task: task.cancelling() for task in tasks}
        for task in tasks:
            task.cancel()


class _OnTrio:
    __slots__ = ("_scopes",)

    def __init__(self) -> None:
        self._scopes: dict[int, anyio.CancelScope] = {}

    def __enter__(self) -> None:
        scope = self._scopes[anyio.get_current_task().id] = anyio.CancelScope()
        scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if kind is GeneratorExit:  # there may be no event loop any more
            return False
        scope = self._scopes.pop(anyio.get_current_task().id)
        return bool(scope.__exit__(kind, error, traceback))

    def interrupt(self) -> None:
        for scope in self._scopes.values():
            scope.cancel()


def interruptible() -> Interruptible:
    """One for the event loop that runs here."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return TasksInside()
    return _OnTrio()
