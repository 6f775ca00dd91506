"""A crowd that is held at a gate, and let in: the server's process.

`python -m tests.benchmarks.release_server` reads lines of JSON, each a `Setting`. For each it
serves on a new port and prints it. Once as many as can be are held, and the others were refused, it
becomes ready, and prints when. With the next line, an empty one, it prints how late the event loop
was at worst, in seconds, and serves the next.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass

import anyio
import uvicorn

from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import Server, Startup
from tests.gate.release_crowd import RedisPool
from tests.gate.release_shapes import Shapes

WORK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Setting:
    """One release.

    Attributes:
        redis: The URL of a real Redis.
        clients: How many come early.
        batch: The gate's slots.
        pool: How many connections to Redis there are.
        waits: Whether a handler waits for one; else one that is too many raises.
        max_held: How many are held; the others come back.
    """

    redis: str
    clients: int
    batch: int
    pool: int
    waits: bool
    max_held: int


async def longest_stall(stop: asyncio.Event) -> float:
    """How late the loop was at worst, in seconds."""
    worst = 0.0
    while not stop.is_set():
        asked_at = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - asked_at - 0.001)
    return worst


async def release(setting: Setting) -> None:
    """Hold all, and let them in."""
    startup = Startup()
    pool = RedisPool(setting.redis, setting.pool, WORK_SECONDS, waits=setting.waits)
    gate = ReadinessGate(
        Shapes(pool, asyncio.sleep),
        startup,
        manage_lifespan=True,
        max_held=setting.max_held,
        hold_seconds=120,
        release_batch=setting.batch,
    )
    config = uvicorn.Config(
        gate,
        port=0,
        backlog=4096,
        log_level="critical",
        lifespan="on",
        timeout_graceful_shutdown=1,  # some handlers do not notice that their clients are gone
    )
    server = Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        await server.up.wait()
        print(server.port, flush=True)
        with anyio.fail_after(60):
            while (  # the gate has no event for it
                gate.held < setting.max_held
                or gate.counts.held + gate.counts.overflow < setting.clients
            ):
                await asyncio.sleep(0.01)
        stop = asyncio.Event()
        stall = asyncio.create_task(longest_stall(stop))
        await asyncio.sleep(0.05)
        startup.make_ready()
        print(time.perf_counter(), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        stop.set()
        print(await stall, flush=True)
        server.should_exit = True
    await pool.aclose()


async def main() -> None:
    """Do what the lines say."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        await release(Setting(**json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main())
