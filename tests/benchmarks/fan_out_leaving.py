"""Very many subscribers that leave while they wait, in random order, on asyncio."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable

from orchestrator._core.feed import Feed
from tests.benchmarks.measure import interleaved
from tests.benchmarks.rows import Row, at_most

Shuffle = Callable[[list[int]], None]


class InDict:
    """The least that a place to wait can be: futures in a `dict`, which they leave themselves."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}

    async def wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = None
        try:
            await future
        finally:
            del self._waiting[future]


async def leave(wait: Callable[[], Awaitable[object]], size: int, shuffle: Shuffle) -> float:
    """Milliseconds until all that wait were cancelled and have ended."""

    async def one() -> None:
        await wait()

    tasks = [asyncio.create_task(one()) for _ in range(size)]
    order = list(range(size))
    shuffle(order)
    await asyncio.sleep(0)
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    for number in order:
        tasks[number].cancel()
    while not all(task.done() for task in tasks):  # one turn is enough: no event is
        await asyncio.sleep(0)
    took = (time.perf_counter() - began) * 1e3
    gc.enable()
    assert all(task.cancelled() for task in tasks)
    return took


def row(size: int, rounds: int, shuffle: Shuffle) -> Row:
    """The row; milliseconds."""

    async def ours() -> float:
        feed = Feed()
        return await leave(lambda: anext(feed.subscribe()), size, shuffle)

    async def event() -> float:
        return await leave(asyncio.Event().wait, size, shuffle)

    async def in_dict() -> float:
        return await leave(InDict().wait, size, shuffle)

    figures = interleaved(
        {
            "ours": lambda: asyncio.run(ours()),
            "asyncio.Event": lambda: asyncio.run(event()),
            "dict": lambda: asyncio.run(in_dict()),
        },
        rounds=rounds,
        warm_up=0,
    )
    return Row(
        part="fan-out",
        what=f"asyncio: {size:,} subscribers cancelled in random order",
        unit="ms",
        ours=figures["ours"],
        peers=(figures["asyncio.Event"],),
        floor=figures["dict"],
        verdicts=(at_most(figures["ours"], 0.1, figures["asyncio.Event"]),),
    )
