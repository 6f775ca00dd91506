"""One event to very many subscribers that wait: how long, with what stall, and in how much memory.

The same subscribers are told again and again, on asyncio and on trio. The cyclic garbage collector
rests while they are: when it strikes is chance. A stall is counted in processor time of the event
loop's thread, so that it is the loop's own.
"""

import gc
import random
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import anyio
import anyio.lowlevel

from tests.benchmarks import fan_out_leaving
from tests.benchmarks.fan_out_ways import EVENTS, PEERS, Crowd, Ours, Way, installed
from tests.benchmarks.measure import ROUNDS
from tests.benchmarks.rows import Figure, Plot, Row, Series, at_most

PART = "fan-out"
SIZES = (1, 100, 10_000, 100_000)
MOST_FOR_PEERS = 10_000
"""Of more subscribers than this only ours and the event objects are told."""

ROUNDS_OF_MANY = 3
"""Of what takes long and hardly varies."""

ROUNDS_OF_PEERS = 5
"""Of the most that peers are told of, which takes most of the time of this part."""

FEW = 100
"""With so few there is no stall to speak of."""

REPEAT_FEW = 50
"""A few are told as many times in each round, and the mean counts."""

Taken = dict[str, list[float]]


@contextmanager
def no_collector(*, collect: bool = True) -> Iterator[None]:
    """Without the cyclic garbage collector; it is run before."""
    if collect:
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def tell(way: Way) -> float:
    """Milliseconds until all were told."""
    crowd = way.crowd
    crowd.told, crowd.done = 0, anyio.Event()
    way.prepare()
    began = time.perf_counter()
    await way.fire()
    await crowd.done.wait()
    return (time.perf_counter() - began) * 1e3


async def stall(way: Way) -> float:
    """The longest time in which no other task could run while all were told; milliseconds."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        last = time.thread_time()
        while True:
            await anyio.lowlevel.checkpoint()
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beat)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        longest = 0.0
        await tell(way)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    return longest * 1e3


async def wait_again() -> None:
    """Let all subscribers come to wait for the next event.

    Those of a memory object stream have 75 ms of work left for that when 10,000 were told. The next
    candidate paid for it, whenever trio's random order let it begin first.
    """
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


async def settle(ways: Sequence[Way]) -> None:
    """Let all subscribers come to wait; the first event shows that they do."""
    for way in ways:
        await wait_again()
        await anyio.sleep(0.01)
        await tell(way)
        await wait_again()


async def tell_times(way: Way, times: int) -> float:
    """Milliseconds until all were told, on average."""
    total = 0.0
    for _ in range(times):
        total += await tell(way)
        await wait_again()
    return total / times


async def compare(kinds: Sequence[type[Way]], size: int, rounds: int) -> tuple[Taken, Taken]:
    """Totals and stalls of all ways, taking turns; milliseconds."""
    ways = [kind(Crowd(size)) for kind in kinds]
    totals, stalls = ({way.name: list[float]() for way in ways} for _ in range(2))
    times = REPEAT_FEW if size <= FEW else 1
    async with anyio.create_task_group() as tasks:
        for way in ways:
            await way.start(tasks)
        await settle(ways)
        gc.freeze()  # or to collect garbage before each would take longer than all the rest
        turns = list(ways)
        for _ in range(rounds):
            for way in turns:
                with no_collector():
                    totals[way.name].append(await tell_times(way, times))
                if size > FEW and isinstance(way, (Ours, *EVENTS.values())):
                    with no_collector():
                        stalls[way.name].append(await stall(way))
                        await wait_again()
            turns.append(turns.pop(0))
        gc.unfreeze()
        for way in ways:
            way.crowd.over = True
            await tell(way)
            await way.stop()
    return totals, stalls


async def bytes_each(kind: type[Way], size: int) -> float:
    """What one subscriber that waits takes in memory, with its task; bytes."""
    with no_collector():
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        way = kind(Crowd(size))
        async with anyio.create_task_group() as tasks:
            await way.start(tasks)
            await settle([way])
            gc.collect()
            used = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            way.crowd.over = True
            await tell(way)
            await way.stop()
    return used / size


def figure(taken: Taken, kind: type[Way]) -> Figure:
    """As a figure."""
    return Figure(kind.name, tuple(taken[kind.name]))


def rows(backend: str, size: int, rounds: int) -> Iterator[Row]:
    """The rows of one size on one event loop."""
    event = EVENTS[backend]
    peers = installed(PEERS[backend]) if size <= MOST_FOR_PEERS else []
    kinds: Sequence[type[Way]] = [Ours, event, *peers]
    totals, stalls = anyio.run(compare, kinds, size, rounds, backend=backend)
    ours, floor = figure(totals, Ours), figure(totals, event)
    yield Row(
        part=PART,
        what=f"{backend}: {size:,} subscribers told",
        unit="ms",
        ours=ours,
        peers=tuple(figure(totals, peer) for peer in peers),
        floor=floor,
        verdicts=(at_most(ours, 1.15, floor),),
    )
    if size > FEW:
        ours, floor = figure(stalls, Ours), figure(stalls, event)
        yield Row(
            part=PART,
            what=f"{backend}: longest stall while {size:,} are told",
            unit="ms",
            ours=ours,
            floor=floor,
            verdicts=(at_most(ours, 1 / 50, floor),),
        )


def memory(backend: str, size: int, rounds: int) -> Row:
    """The row of memory."""
    taken: Taken = {Ours.name: [], EVENTS[backend].name: []}
    for _ in range(rounds):
        for kind in (Ours, EVENTS[backend]):
            taken[kind.name].append(anyio.run(bytes_each, kind, size, backend=backend))
    ours, floor = figure(taken, Ours), figure(taken, EVENTS[backend])
    return Row(
        part=PART,
        what=f"{backend}: memory of one subscriber that waits, with its task",
        unit="bytes",
        ours=ours,
        floor=floor,
        verdicts=(at_most(ours, 1.3, floor),),
    )


def plot(backend: str, told: Sequence[tuple[int, Row]]) -> Plot:
    """How the time grows with the subscribers."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for size, row in told:
        for taken in (row.ours, *((row.floor,) if row.floor else ()), *row.peers):
            lines.setdefault(taken.name, []).append((size, taken.median))
    return Plot(
        part=PART,
        name=backend,
        title=f"One event to all subscribers, {backend}",
        x_label="subscribers that wait",
        y_label="ms until all were told",
        series=tuple(Series(name, tuple(points)) for name, points in lines.items()),
    )


def _rounds_of(size: int, rounds: int) -> int:
    if size > MOST_FOR_PEERS:
        return min(rounds, ROUNDS_OF_MANY)
    return min(rounds, ROUNDS_OF_PEERS) if size == MOST_FOR_PEERS else rounds


def measure(
    sizes: Sequence[int] = SIZES,
    rounds: int = ROUNDS,
    memory_size: int = 2_000,
    leaving_size: int = 20_000,
) -> Iterator[Row | Plot]:
    """All of it."""
    for backend in EVENTS:
        told = []
        for size in sizes:
            found = list(rows(backend, size, _rounds_of(size, rounds)))
            told.append((size, found[0]))
            yield from found
        yield plot(backend, told)
        yield memory(backend, memory_size, min(rounds, ROUNDS_OF_MANY))
    yield fan_out_leaving.row(leaving_size, min(rounds, ROUNDS_OF_MANY), random.Random(1).shuffle)
