"""A crowd that was held is let in: with the gate's pace, and all at once.

`python -m tests.benchmarks.bench_release [clients]` prints, for each release, what the clients
saw, the longest stall of the server's event loop and the time until the last one was in, and how
they compare. The server (uvicorn) runs in a process of its own, on a pool of 100 connections that
each handshake needs for 20 ms; a pool either fails when it is empty, or lets wait.
"""

# ruff: noqa: T201  a benchmark prints

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import anyio
import uvicorn
import websockets
from websockets.exceptions import InvalidHandshake

from orchestrator.asgi import ReadinessGate
from orchestrator.asgi._types import Receive, Scope, Send
from tests.integrations.gate_support import Server, Startup, until

ROOT = Path(__file__).parents[2]
POOL, WORK_SECONDS = 100, 0.02
ROUNDS = 3


class Pooled:
    """Accepts, then needs a connection of the pool for a while, then echoes."""

    def __init__(self, *, waits: bool) -> None:
        self._waits = waits
        self._free = asyncio.Semaphore(POOL)
        self.in_at: list[float] = []

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
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


async def serve(clients: int, batch: int, *, waits: bool) -> None:
    """The server's process: release when all are held, and print what was measured."""
    startup, app = Startup(), Pooled(waits=waits)
    gate = ReadinessGate(
        app,
        startup,
        manage_lifespan=True,
        max_held=clients,
        hold_seconds=60,
        release_batch=batch,
    )
    server = Server(uvicorn.Config(gate, port=0, backlog=4096, log_level="error", lifespan="on"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        await server.up.wait()
        print(server.port, flush=True)
        with anyio.fail_after(60):
            await until_held(gate, clients)
        stop = asyncio.Event()
        stall = asyncio.create_task(longest_stall(stop))
        await asyncio.sleep(0.05)
        began_at = time.perf_counter()
        startup.make_ready()
        # Each has a handler that has settled in, or was closed.
        await until(lambda: len(app.in_at) + gate.closes[1011] == clients)
        took = max(app.in_at) - began_at
        stop.set()
        figures = {"stall_seconds": await stall, "last_in_seconds": took}
        print(json.dumps(figures), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        server.should_exit = True


async def until_held(gate: ReadinessGate, clients: int) -> None:
    while gate.held < clients:  # noqa: ASYNC110  the gate has no event for it
        await asyncio.sleep(0.01)


async def see(port: int) -> str:
    """What one client sees."""
    try:
        async with websockets.connect(
            f"ws://127.0.0.1:{port}/", proxy=None, open_timeout=90, ping_interval=None
        ) as client:
            await client.send("ping")
            return str(await client.recv())
    except websockets.ConnectionClosed as error:
        return str(error.rcvd.code if error.rcvd else 1006)
    except (InvalidHandshake, OSError) as error:
        return type(error).__name__


async def measure(clients: int, batch: int, *, waits: bool) -> tuple[Counter[str], float, float]:
    """One release: what clients saw, the stall and the time until the last one, in seconds."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.bench_release", "--serve"),
        *(str(clients), str(batch), "waits" if waits else "fails"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    port = int(await process.stdout.readline())
    seen = Counter(await asyncio.gather(*(see(port) for _ in range(clients))))
    figures = json.loads(await process.stdout.readline())
    process.stdin.write(b"\n")
    await process.wait()
    return seen, figures["stall_seconds"], figures["last_in_seconds"]


async def compare(clients: int) -> None:
    """Measure and print."""
    print(f"{clients} held, a pool of {POOL}, {WORK_SECONDS * 1000:.0f} ms each; {ROUNDS} rounds")
    for waits in (False, True):
        last_in = {}
        for batch in (32, 80, clients):
            rounds = [await measure(clients, batch, waits=waits) for _ in range(ROUNDS)]
            seen: Counter[str] = sum((seen for seen, _, _ in rounds), Counter())
            stall = max(stall for _, stall, _ in rounds)
            last_in[batch] = statistics.median(took for _, _, took in rounds)
            name = "all at once" if batch == clients else f"{batch} at a time"
            print(
                f"pool {'waits' if waits else 'fails'}, {name}: clients saw {dict(seen)};"
                f" longest stall {stall * 1000:.0f} ms; last one in after {last_in[batch]:.2f} s"
            )
        if waits:  # from the other nearly all are turned away, and the rest is in soon
            for batch in (32, 80):
                ratio = last_in[batch] / last_in[clients]
                print(f"  last one in, {batch} at a time / all at once: {ratio:.2f}")


def main() -> None:
    """Serve if told so by the other process; measure otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", type=int, nargs="?", default=1000)
    parser.add_argument("--serve", nargs=3)
    options = parser.parse_args()
    if options.serve:
        clients, batch, waits = options.serve
        asyncio.run(serve(int(clients), int(batch), waits=waits == "waits"))
    else:
        asyncio.run(compare(options.clients))


if __name__ == "__main__":
    main()
