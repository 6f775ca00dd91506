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


class _OnAsyncio:
    __slots__ = ("_inside", "_interrupted")

    def __init__(self) -> None:
        self._inside: list[asyncio.Task[object]] = []  # one, as a rule
        self._interrupted: dict[asyncio.Task[object], int] | None = None

    def __enter__(self) -> None:
        if (task := asyncio.current_task()) is not None:
            self._inside.append(task)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if kind is GeneratorExit:  # there may be no event loop any more
            return False
        task = asyncio.current_task()
        if task is None:
            return False
        self._inside.remove(task)
        if self._interrupted is None or task not in self._interrupted:
            return False
        before = self._interrupted.pop(task)
        task.uncancel()
        # Whoever has cancelled it as well is not to be robbed of it.
        return kind is asyncio.CancelledError and task.cancelling() <= before

    def interrupt(self) -> None:
        self._interrupted = {task: task.cancelling() for task in self._inside}
        for task in self._inside:
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
        return _OnAsyncio()
    return _OnTrio()
