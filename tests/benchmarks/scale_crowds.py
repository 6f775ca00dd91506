"""What one more check, task, held client or instance of a fleet costs when there are very many.

`python -m tests.benchmarks.scale_crowds KIND SIZE...` prints microseconds of processor time for
each, by size. That is counted and not the time that goes by, so two kinds are measured at once.
"""

import asyncio
import gc
import json
import logging
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import anyio
import redis

from orchestrator import Check, ConditionSpec, Orchestrator, Policy, Stage, Task
from orchestrator.asgi import ReadinessGate
from orchestrator.checks import call
from orchestrator.fleet import follow
from tests.asgi.gate_support import Startup
from tests.benchmarks.check_peers import nothing
from tests.benchmarks.part_crowd import Counting, _handle
from tests.benchmarks.part_fleet import KEYS, entry_of, state_of
from tests.benchmarks.rows import Figure, Plot, Row, Series, at_most
from tests.redis_server import RedisServer

PART = "scale"
SIZES = (1, 10, 100, 1_000, 10_000, 100_000)
FEW = 1_000
MOST_INSTANCES = 20_000
"""Of a fleet; a reader keeps no more, and says so."""

LEAST_ITEMS = 3_000
"""Of fewer, as many rounds are made as make up this number, and their median counts."""

LIMIT_SECONDS = 400
"""For what hangs, not for what is slow."""

_POLICY = Policy(grace_seconds=0, budget_seconds=3600)
_LANES: Sequence[Sequence[str]] = (("checks",), ("tasks", "held clients", "instances"))
"""What is measured one after the other, on a processor each."""


async def _start(conditions: list[ConditionSpec]) -> None:
    """Enter an orchestrator, see it ready, and leave it."""
    async with Orchestrator(call(nothing), policy=_POLICY, conditions=conditions) as startup:
        await startup.wait_for(Stage.READY)


async def checks(number: int) -> None:
    """So many are made, asked once, and ended."""
    await _start([Check(f"check {n}", call(nothing), interval_seconds=3600) for n in range(number)])


async def tasks(number: int) -> None:
    """So many are made, started, and ended."""
    await _start([Task(f"task {n}", anyio.sleep_forever) for n in range(number)])


async def held_clients(number: int) -> None:
    """So many are held, and let in."""
    async with Startup(policy=Policy(budget_seconds=3600)) as startup:
        inside = Counting(number)
        gate = ReadinessGate(inside, startup, max_held=number, hold_seconds=3600, release_batch=256)
        clients = [asyncio.create_task(_handle(gate)) for _ in range(number)]
        while gate.held < number:
            await asyncio.sleep(0)
        startup.make_ready()
        await inside.all.wait()
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def instances(number: int) -> None:
    """So many are read from a real Redis."""
    async with follow(_server.url, service="chat", connect_seconds=120) as fleet:
        assert len(fleet.instances) == number


KINDS: dict[str, Callable[[int], Awaitable[None]]] = {
    "checks": checks,
    "tasks": tasks,
    "held clients": held_clients,
    "instances": instances,
}

_server = RedisServer()


def cost(kind: str, number: int) -> float:
    """Microseconds of processor time for each."""
    if kind == "instances":
        _publish(number)
    gc.collect()
    gc.disable()  # when it strikes is chance, and how long it takes is the interpreter's
    began = time.process_time()
    asyncio.run(_main(kind, number))
    took = time.process_time() - began
    gc.enable()
    return took / number * 1e6


async def _main(kind: str, number: int) -> None:
    await KINDS[kind](number)


def _publish(number: int) -> None:
    with redis.Redis(port=_server.port) as client:
        client.flushall()
        ends = time.time() + 3600
        with client.pipeline(transaction=False) as all_of_them:
            for one in range(number):
                entry = entry_of(one, 7)
                all_of_them.hset(KEYS.instances, entry.incarnation, f"7 {state_of(one, 7)}")
                all_of_them.zadd(KEYS.leases, {entry.incarnation: ends})
            all_of_them.execute()


def main() -> None:
    """Measure one kind in this process."""
    kind, *sizes = sys.argv[1:]
    logging.getLogger("orchestrator").setLevel(logging.CRITICAL)
    if kind == "instances":
        _server.start()
    found = {}
    for size in map(int, sizes):
        rounds = min(15, max(1, LEAST_ITEMS // size))
        found[size] = [cost(kind, size) for _ in range(rounds)]
    if kind == "instances":
        _server.stop()
    print(json.dumps(found))  # read by the other process


def _elsewhere(kinds: Sequence[str], sizes: Sequence[int]) -> dict[str, dict[int, Figure]]:
    found = {}
    for kind in kinds:
        these = [size for size in sizes if kind != "instances" or size <= MOST_INSTANCES]
        if kind == "instances" and len(these) < len(sizes):
            these.append(MOST_INSTANCES)
        done = subprocess.run(
            [sys.executable, "-m", __name__, kind, *map(str, these)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{kind} could not be measured: {done.stderr}")
        taken = json.loads(done.stdout)
        found[kind] = {int(size): Figure(size, tuple(each)) for size, each in taken.items()}
    return found


def rows(sizes: Sequence[int] = SIZES, few: int = FEW) -> Iterator[Row | Plot]:
    """A row and a plot for each kind."""
    with ThreadPoolExecutor(len(_LANES)) as pool:
        lanes = [pool.submit(_elsewhere, kinds, sizes) for kinds in _LANES]
        found = {kind: figures for lane in lanes for kind, figures in lane.result().items()}
    for kind, figures in found.items():
        many = max(figures)
        ours = Figure("ours", figures[many].values)
        floor = Figure(f"one of {few:,}", figures[few].values)
        yield Row(
            part=PART,
            what=f"one of {many:,} {kind}",
            unit="us",
            ours=ours,
            floor=floor,
            verdicts=(at_most(ours, 1.5, floor, f"one of {few:,}"),),
        )
        yield _plot(kind, figures)


def _plot(kind: str, figures: dict[int, Figure]) -> Plot:
    total = tuple((size, median(figure.values) * size / 1e3) for size, figure in figures.items())
    first, last = min(figures), max(figures)
    each = median(figures[last].values) / 1e3
    return Plot(
        part=PART,
        name=kind.replace(" ", "-"),
        title=f"What {kind} cost in all",
        x_label=f"{kind}",
        y_label="ms of processor time",
        series=(
            Series("ours", total),
            Series("in proportion", ((first, each * first), (last, each * last))),
        ),
    )


if __name__ == "__main__":
    main()
