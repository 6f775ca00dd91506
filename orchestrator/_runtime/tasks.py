"""Ending what runs beside the application, whatever it does."""

import asyncio
import contextlib
import math
import signal
import traceback
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVarTuple

import anyio
import anyio.lowlevel

from orchestrator._errors import ends_process
from orchestrator._hardening.guard import name_of
from orchestrator._hardening.log_thread import logger

_CLOSE_SECONDS = 1.0


ArgumentsT = TypeVarTuple("ArgumentsT")

# Who waits for the task learns it by other means, so it gives nothing.
Function = Callable[[*ArgumentsT], Coroutine[Any, Any, None]]


def uninterrupted(function: Function[*ArgumentsT]) -> Function[*ArgumentsT]:
    """The function, for a task of ours in which Ctrl-C is not to raise `KeyboardInterrupt`.

    Python raises it in whatever runs. There it would end the orchestrator, and the application
    would go on. asyncio cancels the main task instead; trio has to interrupt that.
    """
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return function
    from trio import lowlevel  # needed on its own event loop only

    async def run(*arguments: *ArgumentsT) -> None:
        await function(*arguments)

    return lowlevel.enable_ki_protection(run)


class Closable(Protocol):
    """A part that has something to let go of."""

    async def aclose(self) -> None:
        """Let go of it."""
        ...


async def close_in_time(*parts: Closable) -> None:
    """Let all parts go side by side, whatever they do and whether or not we were cancelled."""
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as tasks:
            for part in parts:
                tasks.start_soon(uninterrupted(_close_one), part)


async def _close_one(part: Closable) -> None:
    with anyio.move_on_after(_CLOSE_SECONDS) as scope:
        try:
            await part.aclose()
        except BaseException as error:
            if must_pass(error):
                raise
            logger.error("%s raised while it was closed", name_of(part), error=error)
    if scope.cancelled_caught:
        logger.warning("%s was not closed within %g s", name_of(part), _CLOSE_SECONDS)


def _is_cancellation(error: BaseException) -> bool:
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(cancelled) is not None
    return isinstance(error, cancelled)


def must_pass(error: BaseException) -> bool:
    """Whether what code of the application raised, while it was awaited, is no fault of its own.

    That is the end of the process, the cancellation of a scope around, and the end of a coroutine
    that no event loop runs any more. All else is the application's: asyncio lets cancellations
    stray, and extensions in Rust raise panics that are no `Exception`.
    """
    if ends_process(error):
        return True
    if isinstance(error, GeneratorExit):
        return not _in_a_task()
    return _is_cancellation(error) and not is_stray_cancellation()


def came_by_signal(error: BaseException) -> bool:
    """Whether an exception was raised by a handler of a signal, in whatever happened to run.

    `sys.exit()` in a task or a probe is a failure of that one. The same call in the application's
    handler of SIGTERM ends the process, and must not be lost because it arrived in a task.
    """
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = {code for one in handlers if (code := _code_of(one)) is not None}
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_code in codes for frame, _ in frames)


def _code_of(handler: object) -> object:
    while isinstance(handler, partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    return getattr(function, "__code__", None)


def _in_a_task() -> bool:
    try:
        anyio.get_current_task()
    except RuntimeError:
        return False
    return True


def is_stray_cancellation() -> bool:
    """Whether a cancellation that was caught just now was meant for another task.

    On asyncio, awaiting a task or a future that was cancelled elsewhere raises the same exception
    as being cancelled. Let out, it would end the task that awaited, silently.
    """
    if anyio.current_effective_deadline() == -math.inf:
        return False  # a scope around was cancelled
    try:
        task = asyncio.current_task()
    except RuntimeError:  # trio: there only scopes cancel
        return False
    return task is None or not task.cancelling()


async def take_back_cancel(ends: Callable[[], bool]) -> bool:
    """Go on after a cancellation with which the application hit a task of ours; on asyncio.

    `task.cancel()`, unlike a scope, asks for nothing in return, so any code that holds the task,
    or runs in it, can do it. Call this in the `except` block.

    Args:
        ends: Whether the task is to end anyway. When an event loop ends, all of its tasks are
            cancelled in one turn, and whatever makes this true may run after us.

    Returns:
        Whether the task goes on. If not, let the exception out.
    """
    task = _asyncio_task()
    if task is None or not task.cancelling() or ends():
        return False
    while task.cancelling():
        task.uncancel()
    await anyio.lowlevel.checkpoint()
    return not ends()


class Uncancelled:
    """Takes back what plain code of the application does to the task in which it is called.

    That code awaits nothing, so no cancellation that it orders can be meant for us. Use it as a
    context manager around the call, and await `settle` before anything else is awaited.
    """

    def __init__(self) -> None:
        self._ordered = False

    def __enter__(self) -> None:
        task = _asyncio_task()
        self._before = 0 if task is None else task.cancelling()

    def __exit__(self, *_: object) -> None:
        task = _asyncio_task()
        while task is not None and task.cancelling() > self._before:
            task.uncancel()
            self._ordered = True

    async def settle(self) -> None:
        """Before Python 3.13 the cancellation still arrives, at the next `await`: at this one."""
        if self._ordered:
            self._ordered = False
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)


def _asyncio_task() -> "asyncio.Task[object] | None":
    try:
        return asyncio.current_task()
    except RuntimeError:  # trio, or no event loop at all
        return None
