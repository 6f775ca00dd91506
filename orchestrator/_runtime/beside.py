"""A task of ours that awaits code of the application, which may swallow every cancellation.

In a task group it would hold up whoever leaves the group, for as long as it likes. So it runs
without one, is cancelled once, and is left behind if that has no effect.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from orchestrator._hardening.log_thread import logger
from orchestrator._runtime.event_loop import EventLoop, Main

_PATIENCE_SECONDS = 0.5
"""How long it may take to end once it is cancelled. What reacts at all needs a turn of the loop."""


@asynccontextmanager
async def beside(main: Main, name: str) -> AsyncIterator[None]:
    """Run `main` beside the block, which is cancelled when `main` ends first.

    Args:
        main: What runs.
        name: The name of its task, also in the log.

    Raises:
        BaseException: What `main` has raised.
    """
    scope, ended = anyio.CancelScope(), anyio.Event()
    failures: list[BaseException] = []

    async def run() -> None:
        try:
            await main()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:  # it is raised where the block ends
            failures.append(error)
        finally:
            scope.cancel()

    task = EventLoop().spawn(run, name, ended.set)
    try:
        with scope:
            if task is None:  # the event loop is ending
                scope.cancel()
            yield
    finally:
        if task is not None and not ended.is_set():
            task.cancel()
            with anyio.move_on_after(_PATIENCE_SECONDS, shield=True):
                await ended.wait()
            if not ended.is_set():
                task.abandon()
                logger.warning(
                    "%s did not end within %g s of being cancelled, and is left behind",
                    name,
                    _PATIENCE_SECONDS,
                )
    if failures:
        raise failures[0]
