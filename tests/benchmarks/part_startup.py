"""What the orchestrator adds to the start-up of a service whose Redis is up."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median

import anyio

from tests.benchmarks.measure import interleaved
from tests.benchmarks.rows import Figure, Row, Verdict, below
from tests.benchmarks.startup_runs import (
    ALONE,
    BY_HAND,
    GCP,
    GRACE,
    LONG_WORK_SECONDS,
    OURS,
    SLEEP,
    WORK_SECONDS,
    Run,
    run,
)
from tests.benchmarks.startup_steps import longest_step_ms
from tests.redis_server import RedisServer

PART = "startup"
ROOT = Path(__file__).parents[2]
MOST_MS, MOST_STALL_MS = 5.0, 3.0
BACKENDS = ("asyncio", "trio")

Taken = Mapping[str, Sequence[Run]]
Turns = Callable[..., dict[str, Figure]]


def measure(rounds: int = 7, backends: Sequence[str] = BACKENDS, warm_up: int = 1) -> Iterator[Row]:
    """All rows, for each of the event loops.

    Args:
        rounds: How often each candidate runs.
        backends: The event loops.
        warm_up: How often each runs before that.
    """
    turns = partial(interleaved, rounds=rounds, warm_up=warm_up)
    import_module("redis.asyncio")  # as in any service that uses Redis: nobody waits for it here
    with RedisServer() as server:
        for backend in backends:
            yield from _warm(backend, server.url, turns)
            yield from _with_grace(backend, server.url, turns)
            yield from _steps(backend, server.url, turns)
            yield from _fresh(backend, server.url, turns)


def _warm(backend: str, url: str, turns: Turns) -> Iterator[Row]:
    names = (OURS, BY_HAND, SLEEP, ALONE)
    taken = _in_turns({name: _here(name, backend, url, WORK_SECONDS) for name in names}, turns)
    where = f"{backend}, redis-py loaded before"
    yield _row(f"{where}: from entering to ready, beside 50 ms of own work", taken, 0, ALONE)
    yield _row(f"{where}: the loop's longest stall, by a heartbeat", taken, 1, ALONE)


def _with_grace(backend: str, url: str, turns: Turns) -> Iterator[Row]:
    work = LONG_WORK_SECONDS
    names = (GCP, SLEEP, GRACE)
    turns = partial(turns, warm_up=0)  # each of them waits for half a second
    taken = _in_turns({name: _here(name, backend, url, work) for name in names}, turns)
    what = f"{backend}: from entering to ready with 0.5 s of grace, beside 200 ms of own work"
    yield _row(what, taken, 0, GRACE)


def _steps(backend: str, url: str, turns: Turns) -> Iterator[Row]:
    def step(name: str) -> Callable[[], float]:
        return lambda: longest_step_ms(name, backend, url, WORK_SECONDS)

    taken = turns({name: step(name) for name in (OURS, ALONE)})
    ours = taken[OURS]
    yield Row(
        part=PART,
        what=f"{backend}: the longest single step, by the loop's own timing",
        unit="ms",
        ours=ours,
        floor=taken[ALONE],
        verdicts=(below(ours, MOST_MS, "ms"),),
    )


def _fresh(backend: str, url: str, turns: Turns) -> Iterator[Row]:
    names = (OURS, BY_HAND, ALONE)
    taken = _in_turns({name: _elsewhere(name, backend, url) for name in names}, turns)
    where = f"{backend}, redis-py loaded meanwhile"
    yield _row(f"{where}: from entering to ready, beside 50 ms of own work", taken, 0, ALONE)
    yield _row(f"{where}: the loop's longest stall, by a heartbeat", taken, 1, ALONE)


# -- inside ----------------------------------------------------------------------------------------


def _here(name: str, backend: str, url: str, work: dict[str, float]) -> Callable[[], Run]:
    return lambda: anyio.run(run, name, url, work, backend=backend)


def _elsewhere(name: str, backend: str, url: str) -> Callable[[], Run]:
    def start() -> Run:
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.startup_runs", name, backend, url],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return Run(*map(float, done.stdout.split()))

    return start


def _in_turns(candidates: Mapping[str, Callable[[], Run]], turns: Turns) -> Taken:
    taken: dict[str, list[Run]] = {name: [] for name in candidates}

    def keeping(name: str) -> Callable[[], float]:
        def start() -> float:
            taken[name].append(candidates[name]())
            return 0.0

        return start

    counted = turns({name: keeping(name) for name in candidates})
    # The first were to warm up.
    return {name: runs[-len(counted[name].values) :] for name, runs in taken.items()}


def _row(what: str, taken: Taken, position: int, floor: str) -> Row:
    """One of the figures of each run; the first name is ours."""
    figures = {
        name: Figure(name, tuple(one[position] for one in runs)) for name, runs in taken.items()
    }
    ours, *_ = figures.values()
    peers = [figure for name, figure in figures.items() if name not in (ours.name, floor)]
    if position == 1:
        verdict = below(ours, MOST_STALL_MS, "ms")
    else:
        pairs = zip(ours.values, figures[floor].values, strict=True)
        added = median(one - other for one, other in pairs)
        text = f"{added:.2f} ms more than {floor}, as the median of pairs (under {MOST_MS:g})"
        verdict = Verdict(text, added < MOST_MS)
    return Row(
        part=PART,
        what=what,
        unit="ms",
        ours=ours,
        peers=tuple(peers),
        floor=figures[floor],
        verdicts=(verdict,),
    )
