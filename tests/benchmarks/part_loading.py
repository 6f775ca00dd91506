"""An application that is slow to import, loaded behind its gate and by the server alone.

The crowd comes with the open port, and something asks `/livez` all the time, as platforms do. The
work of the import is fixed, so whatever the gate takes of the processor meanwhile makes the last
client's time longer.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import partial
from itertools import pairwise
from pathlib import Path

from tests.benchmarks.import_process import environment
from tests.benchmarks.part_import import in_turns
from tests.benchmarks.rows import Figure, Row, Verdict, at_most
from tests.gate.light_clients import SERVED, Want, websocket
from tests.redis_server import RedisServer, free_port

PART = "loading"
ROOT = Path(__file__).parents[2]
STEPS, CLIENTS = 20, 100
MOST_OF_FLOOR = 1.1
_AGAIN_SECONDS = 0.02
_ASK_SECONDS = 0.05

OURS, FLOOR = "behind the gate", "uvicorn alone"
APPLICATION = "tests.benchmarks.loading_app:app"
SERVED_BY = {OURS: "orchestrator.auto:app", FLOOR: APPLICATION}


@dataclass(frozen=True, slots=True)
class Loaded:
    """One start.

    Attributes:
        live_seconds: From the start of the process to the first `/livez` that passes.
        served_seconds: From there to the last client that was served.
        processor_seconds: What the server had used of the processor by then.
        gap_ms: The longest time between two answers of `/livez`.
        served: How many clients were served.
    """

    live_seconds: float
    served_seconds: float
    processor_seconds: float
    gap_ms: float
    served: float


def measure(rounds: int = 3, steps: int = STEPS, clients: int = CLIENTS) -> Iterator[Row]:
    """All rows.

    Args:
        rounds: How often each server is started.
        steps: How long the import takes; 20 are about 4.5 s.
        clients: How many come with the open port.
    """
    with RedisServer() as redis:
        start = partial(_start, redis.url, steps, clients)
        starts: dict[str, Callable[[], Loaded]] = {
            name: partial(start, served) for name, served in SERVED_BY.items()
        }
        taken = in_turns(starts, rounds, 0)
    figures = {
        one.name: [
            Figure(name, tuple(getattr(run, one.name) for run in runs))
            for name, runs in taken.items()
        ]
        for one in fields(Loaded)
    }
    for field, what, unit in (
        ("live_seconds", "from the start of the process to the first `/livez`", "s"),
        ("served_seconds", f"to the last of {clients} clients that came with the open port", "s"),
        ("processor_seconds", "processor time until then", "s"),
    ):
        ours, floor = figures[field]
        target = field == "served_seconds"
        verdicts = (at_most(ours, MOST_OF_FLOOR, floor),) if target else ()
        yield Row(part=PART, what=what, unit=unit, ours=ours, floor=floor, verdicts=verdicts)
    gap, _ = figures["gap_ms"]
    yield Row(part=PART, what="longest gap between two answers of `/livez`", unit="ms", ours=gap)
    served, floor = figures["served"]
    yield Row(
        part=PART,
        what=f"served of {clients}",
        unit="clients",
        ours=served,
        floor=floor,
        more_is_better=True,
        verdicts=(
            Verdict(
                f"{min(served.values):.0f} of {clients} in every run",
                min(served.values) == clients,
            ),
        ),
    )


def _start(redis_url: str, steps: int, clients: int, served_by: str) -> Loaded:
    port = free_port()
    settings = {
        "ORCHESTRATOR_APP": APPLICATION,
        "REDIS_URL": redis_url,
        "LOADING_STEPS": str(steps),
        # A busy machine is slow, and nobody is to be refused for that.
        "ORCHESTRATOR_HOLD_SECONDS": "120",
        "ORCHESTRATOR_BUDGET_SECONDS": "120",
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", served_by, "--port", str(port), "--log-level", "error"],
        env=environment(**settings),
        cwd=ROOT,
    )
    try:
        return asyncio.run(_crowd(process, port, clients, began))
    finally:
        process.kill()
        process.wait()


async def _crowd(
    process: "subprocess.Popen[bytes]", port: int, clients: int, began: float
) -> Loaded:
    served_at: list[float] = []
    lives: list[float] = []

    async def come() -> None:
        while (outcome := await websocket(port, Want("/chat"))).startswith("connect"):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}")
            await asyncio.sleep(_AGAIN_SECONDS)
        if outcome == SERVED:
            served_at.append(time.perf_counter())

    async def ask() -> None:
        while True:
            if await _lives(port):
                lives.append(time.perf_counter())
            await asyncio.sleep(_ASK_SECONDS if lives else _AGAIN_SECONDS)

    asking = asyncio.create_task(ask())
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(come())
    used = _processor_seconds(process.pid)
    while not lives:  # alone, a server is live only when it has served the first of them
        await asyncio.sleep(_AGAIN_SECONDS)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    gaps = [(after - before) * 1e3 for before, after in pairwise(lives)]
    return Loaded(
        lives[0] - began,
        max(served_at, default=began) - began,
        used,
        max(gaps, default=0.0),
        len(served_at),
    )


def _processor_seconds(process: int) -> float:
    """Of all its threads, those that have ended too, such as the one of the import."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    user, system = fields[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def _lives(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
        return b" 200 " in (await reader.readline())
    except OSError:
        return False
    finally:
        writer.transport.abort()
