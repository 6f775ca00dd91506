"""Starts as they happen, on a real Redis: a late one, a slow one, a failed one, a flapping one."""

from collections.abc import Callable, Coroutine

import anyio
import anyio.to_thread

from orchestrator import Orchestrator, Policy
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from states import Stage
from tests.redis_server import RedisServer

CONDITION = "chat-listener"
_LONG_SECONDS = 20.0
"""What a busy machine is given; nothing takes that long."""


async def late(observer: OpenTelemetryObserver) -> None:
    """Redis comes 0.3 s late, and the application's task a little after it."""
    server = RedisServer()
    startup = Orchestrator(
        RedisProbe(server.url),
        policy=Policy(grace_seconds=0.2),
        conditions=[CONDITION, "cache"],
        observers=[observer],
    )
    async with startup:
        startup.condition("cache").set(False, reason="loading")
        await anyio.sleep(0.3)
        await anyio.to_thread.run_sync(server.start)
        await startup.wait_for(Stage.GRACE, timeout_seconds=_LONG_SECONDS)
        startup.condition("cache").set(True)
        await anyio.sleep(0.3)
        with startup.condition(CONDITION):
            await startup.wait_for(Stage.READY, timeout_seconds=_LONG_SECONDS)
            startup.stop()
    server.stop()


async def slow(observer: OpenTelemetryObserver) -> None:
    """Redis is there, but frozen for a while; then the condition never comes."""
    policy = Policy(budget_seconds=5.0, attempt_timeout_seconds=0.3)
    with RedisServer() as server:
        server.freeze()
        async with Orchestrator(
            RedisProbe(server.url), policy=policy, conditions=[CONDITION], observers=[observer]
        ) as startup:
            startup.condition(CONDITION).set(False, reason="its channel does not exist")
            await anyio.sleep(0.7)
            server.thaw()
            await startup.wait_for(Stage.DEGRADED, timeout_seconds=_LONG_SECONDS)


async def wrong_password(observer: OpenTelemetryObserver) -> None:
    """Redis wants a password that the service does not have."""
    with RedisServer(None, "--requirepass", "sesame") as server:
        url = server.url.replace("redis://", "redis://:not-sesame@")
        async with Orchestrator(
            RedisProbe(url), conditions=[CONDITION], observers=[observer]
        ) as startup:
            await startup.wait_for(Stage.DEGRADED, timeout_seconds=_LONG_SECONDS)


async def flapping(observer: OpenTelemetryObserver) -> None:
    """Redis is killed and comes back, twice; then the application's task dies."""
    server = RedisServer().start()
    async with Orchestrator(
        RedisProbe(server.url), conditions=[CONDITION], observers=[observer]
    ) as startup:
        with startup.condition(CONDITION):
            await startup.wait_for(Stage.READY, timeout_seconds=_LONG_SECONDS)
            for _ in range(2):
                server.kill()
                await startup.wait_for(Stage.DEGRADED, timeout_seconds=_LONG_SECONDS)
                await anyio.to_thread.run_sync(server.start)
                await startup.wait_for(Stage.READY, timeout_seconds=_LONG_SECONDS)
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=_LONG_SECONDS)
        startup.condition(CONDITION).set(True)
        await startup.wait_for(Stage.READY, timeout_seconds=_LONG_SECONDS)
    server.stop()


Story = Callable[[OpenTelemetryObserver], Coroutine[None, None, None]]
STORIES: tuple[Story, ...] = (late, slow, wrong_password, flapping)


async def tell_all(make_observer: Callable[[], OpenTelemetryObserver]) -> list[str]:
    """All stories, side by side; gives the trace of each start."""
    observers = [make_observer() for _ in STORIES]
    async with anyio.create_task_group() as tasks:
        for story, observer in zip(STORIES, observers, strict=True):
            tasks.start_soon(story, observer)
    return [observer.trace_id or "" for observer in observers]
