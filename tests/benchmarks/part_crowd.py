"""Very many clients of one gate: let in after they were held, and open in a fall and return.

All in one process and without a network, so that it is the gate that is measured. A stall is
counted in processor time of the event loop's thread.
"""

import asyncio
import gc
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Self

from orchestrator import Stage
from orchestrator._http.asgi_types import ASGIApp, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import Startup, websocket_scope
from tests.benchmarks import socket_memory
from tests.benchmarks.measure import Candidate, interleaved
from tests.benchmarks.rows import Figure, Row, Verdict, below
from tests.benchmarks.socket_memory import Connection, accepts

PART = "crowd"
CLIENTS, ROUNDS = 10_000, 3
BATCH = 256

GATE, EVENT = "the gate", "one asyncio.Event for all"
NONE_OPEN = "none open"

_MOST_STALL_MS = 20.0
_MOST_MORE_MS = 1.0


@dataclass(frozen=True, slots=True)
class Passed:
    """What was measured, in milliseconds.

    Attributes:
        took_ms: Until all was done.
        stall_ms: The longest time in which nothing else could run.
    """

    took_ms: float
    stall_ms: float


class Beat:
    """Notes the longest time between two turns of a task, as an async context manager."""

    async def __aenter__(self) -> Self:
        self.longest = 0.0
        self._task = asyncio.create_task(self._run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.sleep(0)
        self._task.cancel()

    async def _run(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now


class Counting:
    """Counts those that were let in, and knows when it was all of them."""

    def __init__(self, expected: int) -> None:
        self.inside = 0
        self.all = asyncio.Event()
        self._expected = expected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One client."""
        self.inside += 1
        if self.inside == self._expected:
            self.all.set()
        await accepts(scope, receive, send)


async def _handle(app: ASGIApp) -> None:
    one = Connection()
    await app(websocket_scope("/chat"), one.receive, one.send)


async def _crowd(app: ASGIApp, number: int) -> list["asyncio.Task[None]"]:
    tasks = [asyncio.create_task(_handle(app)) for _ in range(number)]
    for _ in range(20):
        await asyncio.sleep(0)
    gc.collect()
    gc.freeze()
    gc.disable()
    return tasks


async def _over(tasks: list["asyncio.Task[None]"]) -> None:
    gc.enable()
    gc.unfreeze()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def let_in(number: int) -> Passed:
    """From ready until the last of those that were held is inside."""
    async with Startup() as startup:
        counting = Counting(number)
        gate = ReadinessGate(
            counting, startup, max_held=number, hold_seconds=120, release_batch=BATCH
        )
        tasks = await _crowd(gate, number)
        assert gate.held == number
        async with Beat() as beat:
            startup.make_ready()
            await startup.wait_for(Stage.READY)
            began = time.perf_counter()
            await counting.all.wait()
            took = time.perf_counter() - began
        await _over(tasks)
    return Passed(took * 1e3, beat.longest * 1e3)


async def told_at_once(number: int) -> Passed:
    """The same with one event, for which all of them wait."""
    event, counting = asyncio.Event(), Counting(number)

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await event.wait()
        await counting(scope, receive, send)

    tasks = await _crowd(waits, number)
    async with Beat() as beat:
        began = time.perf_counter()
        event.set()
        await counting.all.wait()
        took = time.perf_counter() - began
    await _over(tasks)
    return Passed(took * 1e3, beat.longest * 1e3)


async def fall_and_return(number: int) -> Passed:
    """From a condition's fall over degraded until ready again, with so many open WebSockets."""
    async with Startup() as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        gate = ReadinessGate(accepts, startup, close_on_degrade_seconds=None)
        await asyncio.sleep(0.1)
        tasks = await _crowd(gate, number)
        async with Beat() as beat:
            began = time.perf_counter()
            startup.lose()
            await startup.wait_for(Stage.DEGRADED)
            startup.make_ready()
            await startup.wait_for(Stage.READY)
            took = time.perf_counter() - began
        assert not any(task.done() for task in tasks), "all are open still"
        await _over(tasks)
    return Passed(took * 1e3, beat.longest * 1e3)


def measure(
    clients: int = CLIENTS, rounds: int = ROUNDS, sockets: int = socket_memory.SOCKETS
) -> Iterator[Row]:
    """All rows."""
    logging.getLogger("orchestrator").setLevel(logging.ERROR)  # each fall is a line
    took, stall = _both({GATE: (let_in, clients), EVENT: (told_at_once, clients)}, rounds)
    yield _row(f"{clients:,} held WebSockets are let in, {BATCH} at work at once", took)
    yield _row(f"longest stall while {clients:,} are let in", stall, stalls=True)
    name = f"{clients:,} open"
    took, stall = _both({name: (fall_and_return, clients), NONE_OPEN: (fall_and_return, 0)}, rounds)
    what = f"a fall and the return, with {clients:,} open WebSockets"
    yield _row(what, took, most_more_ms=_MOST_MORE_MS)
    yield _row("longest stall in that fall and return", stall, stalls=True)
    yield from socket_memory.rows(sockets)


def _both(
    ways: dict[str, tuple[Callable[[int], Awaitable[Passed]], int]], rounds: int
) -> tuple[dict[str, Figure], dict[str, Figure]]:
    """How long each took, and its stalls."""
    found: dict[str, list[Passed]] = {name: [] for name in ways}

    def candidate(name: str) -> Candidate:
        way, number = ways[name]

        async def run() -> Passed:
            return await way(number)

        def measured() -> float:
            found[name].append(asyncio.run(run()))
            return found[name][-1].took_ms

        return measured

    took = interleaved({name: candidate(name) for name in ways}, rounds=rounds, warm_up=0)
    stalls = {
        name: Figure(name, tuple(one.stall_ms for one in passed)) for name, passed in found.items()
    }
    return took, stalls


def _row(
    what: str, figures: dict[str, Figure], *, most_more_ms: float = 0.0, stalls: bool = False
) -> Row:
    ours, floor = figures.values()
    verdicts: tuple[Verdict, ...] = ()
    if most_more_ms:
        more_ms = ours.median - floor.median
        words = f"{more_ms:.2g} ms more than {floor.name} (at most {most_more_ms:g})"
        verdicts = (Verdict(words, more_ms <= most_more_ms),)
    if stalls:
        verdicts = (below(ours, _MOST_STALL_MS, "ms"),)
    return Row(part=PART, what=what, unit="ms", ours=ours, floor=floor, verdicts=verdicts)
