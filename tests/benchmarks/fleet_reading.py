"""What it takes to see a fleet: all instances at once, and the next change.

The least is redis-py, which reads the same keys of the same Redis and decodes nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import redis
import redis.asyncio

from orchestrator.fleet import Change, follow
from tests.benchmarks.measure import Candidate, interleaved
from tests.benchmarks.rows import Figure, Row, at_most
from tests.fleet.published import KEYS

PART = "fleet"
OURS = "follow"
BY_HAND = "redis-py: HGETALL and the leases"
XREAD = "redis-py: XREAD that waits"

_MOST_OF_READ = 7.0
_MOST_OF_CHANGE = 5.0
_APART_SECONDS = 0.02
"""Between two changes, so that each finds the readers waiting."""


def snapshot_row(url: str, instances: int, rounds: int) -> Row:
    """From nothing to all instances."""

    async def ours() -> None:
        async with follow(url, service="chat") as fleet:
            assert len(fleet.instances) == instances

    async def by_hand() -> None:
        async with redis.asyncio.from_url(url) as client:
            states = await client.hgetall(KEYS.instances)
            leases = await client.zrange(KEYS.leases, 0, -1, withscores=True)
        assert len(states) == len(leases) == instances

    figures = interleaved({OURS: _ms(ours), BY_HAND: _ms(by_hand)}, rounds=rounds)
    mine, floor = figures.values()
    return Row(
        part=PART,
        what=f"all of {instances:,} instances are known, decoded, from nothing",
        unit="ms",
        ours=mine,
        floor=floor,
        verdicts=(at_most(mine, _MOST_OF_READ, floor),),
    )


def change_row(url: str, append: Callable[[], None], changes: int, rounds: int) -> Row:
    """From the moment a change is in Redis until whoever follows has it."""
    figures = interleaved(
        {
            name: lambda way=way: asyncio.run(way(url, append, changes))  # type: ignore[misc]  # a default binds it
            for name, way in ((OURS, _followed), (XREAD, _read))
        },
        rounds=rounds,
        warm_up=0,
    )
    mine, floor = figures.values()
    return Row(
        part=PART,
        what="a change is in Redis to whoever follows has it",
        unit="ms",
        ours=Figure(mine.name, mine.values),
        floor=floor,
        verdicts=(at_most(mine, _MOST_OF_CHANGE, floor),),
    )


async def _followed(url: str, append: Callable[[], None], changes: int) -> float:
    """The mean, in ms."""
    total = 0.0
    async with follow(url, service="chat") as fleet:
        for _ in range(changes):
            await asyncio.sleep(_APART_SECONDS)
            began = time.perf_counter()
            await asyncio.to_thread(append)
            async for news in fleet:
                if isinstance(news, Change):
                    break
            total += time.perf_counter() - began
    return total / changes * 1e3


async def _read(url: str, append: Callable[[], None], changes: int) -> float:
    total = 0.0
    async with redis.asyncio.from_url(url, socket_timeout=None) as client:
        for _ in range(changes):
            reading = asyncio.create_task(_one(client))
            await asyncio.sleep(_APART_SECONDS)
            began = time.perf_counter()
            await asyncio.to_thread(append)
            await reading
            total += time.perf_counter() - began
    return total / changes * 1e3


async def _one(client: redis.asyncio.Redis) -> None:
    await client.xread({KEYS.events: "$"}, count=1, block=5000)


def _ms(run: Callable[[], Awaitable[None]]) -> Candidate:
    async def timed() -> float:
        began = time.perf_counter()
        await run()
        return (time.perf_counter() - began) * 1e3

    return lambda: asyncio.run(timed())
