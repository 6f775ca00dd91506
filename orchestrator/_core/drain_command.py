"""Begins the drain at the drain command, which a platform runs before it sends SIGTERM."""

import anyio

from orchestrator._core.drain_access import DrainAccess
from orchestrator._core.feed import Subscription
from orchestrator._runtime.drain_signal import on_drain_signal


async def hear_drain_command(startup: DrainAccess, events: Subscription) -> None:
    """A companion that drains at the command."""
    if not startup.drain_seconds_left():
        return  # it does not drain at all
    asked = anyio.Event()

    async def drain() -> None:
        await asked.wait()
        await startup.drain("the drain command")

    with on_drain_signal(asked.set) as over:

        async def say_when_over() -> None:
            await startup.drained()
            over()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            tasks.start_soon(say_when_over)
            async for _ in events:
                pass  # only its end matters
            tasks.cancel_scope.cancel()
