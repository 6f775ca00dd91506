"""A crowd that is held at a gate, and let in: the server's process.

`python -m tests.benchmarks.release_server` reads lines `BATCH POOL WAITS CLIENTS`. For each it
serves on a new port, prints it, lets all clients in once all are held, and prints how late the
event loop was at worst and when the last one was in, in seconds, and how many were turned away.
"""

# ruff: noqa: T201  it prints what the other process reads

import asyncio
import sys
import time

import anyio
import uvicorn

from orchestrator.asgi import ReadinessGate
from orchestrator.asgi._types import Receive, Scope, Send
from tests.integrations.gate_support import Server, Startup, until

WORK_SECONDS = 0.02


class Pooled:
    """Accepts, then needs a connection of the pool for a while, then echoes.

    Args:
        pool: How many connections there are.
        waits: Whether a handler waits for one, or fails when there is none.
    """

    def __init__(self, pool: int, *, waits: bool) -> None:
        self._waits = waits
        self._free = asyncio.Semaphore(pool)
        self.in_at: list[float] = []

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Handle one WebSocket."""
        await receive()
        await send({"type": "websocket.accept"})
        if self._free.locked() and not self._waits:
            await send({"type": "websocket.close", "code": 1011})
            return
        async with self._free:
            await asyncio.sleep(WORK_SECONDS)
        self.in_at.append(time.perf_counter())
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": "pong"})


async def longest_stall(stop: asyncio.Event) -> float:
    """How late the loop was at worst, in seconds."""
    worst = 0.0
    while not stop.is_set():
        asked_at = time.perf_counter()
        await asyncio.sleep(0.001)
        worst = max(worst, time.perf_counter() - asked_at - 0.001)
    return worst


async def release(batch: int, pool: int, clients: int, *, waits: bool) -> None:
    """Hold all, and let them in."""
    startup, app = Startup(), Pooled(pool, waits=waits)
    gate = ReadinessGate(
        app,
        startup,
        manage_lifespan=True,
        max_held=clients,
        hold_seconds=60,
        release_batch=batch,
    )
    config = uvicorn.Config(gate, port=0, backlog=4096, log_level="error", lifespan="on")
    server = Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        await server.up.wait()
        print(server.port, flush=True)
        with anyio.fail_after(60):
            while gate.held < clients:  # noqa: ASYNC110  the gate has no event for it
                await asyncio.sleep(0.01)
        stop = asyncio.Event()
        stall = asyncio.create_task(longest_stall(stop))
        await asyncio.sleep(0.05)
        began_at = time.perf_counter()
        startup.make_ready()
        # Each has a handler that has settled in, or was closed.
        await until(lambda: len(app.in_at) + gate.closes[1011] == clients)
        took = max(app.in_at) - began_at
        stop.set()
        print(await stall, took, gate.closes[1011], flush=True)
        server.should_exit = True


async def main() -> None:
    """Do what the lines say."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        batch, pool, waits, clients = map(int, line.split())
        await release(batch, pool, clients, waits=bool(waits))


if __name__ == "__main__":
    asyncio.run(main())
