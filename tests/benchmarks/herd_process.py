"""Many instances in one process: each with its own orchestrator and probe, all on one Redis.

Run as `python -m tests.benchmarks.herd_process URL COUNT SECONDS [PACE]`. With a pace they leave as
soon as they have their answer: it is one of `tests.herd.pacing.USUAL`, or `own`. It prints a line
once all have begun, and then one for each instance that gets its first answer: the time, in
monotonic seconds.
"""

import asyncio
import sys
import time
from dataclasses import replace
from random import Random
from weakref import WeakKeyDictionary

import redis.asyncio  # noqa: F401  as a service that uses it has done long before

from orchestrator import Orchestrator, Stage
from orchestrator._probing.pacing import Pacer
from orchestrator.redis import RedisProbe
from orchestrator.settings import Settings
from states import Snapshot
from tests.herd.pacing import USUAL, Pace

POLICY = replace(Settings.from_environment().policy, budget_seconds=1000)
"""Nobody is degraded in the outage: the stage makes no difference to the pace."""


async def instance(
    url: str, delay_seconds: float, begun: asyncio.Semaphore, *, leaves: bool
) -> None:
    """One instance, from its start until it is ended."""
    await asyncio.sleep(delay_seconds)
    policy = replace(POLICY, grace_seconds=0.0) if leaves else POLICY
    async with Orchestrator(RedisProbe(url), policy=policy) as startup:
        begun.release()
        await startup.wait_for(Stage.READY)
        print(time.monotonic(), flush=True)  # that is how the result gets out
        if not leaves:
            await asyncio.sleep(3600)


def take_pace(name: str) -> None:
    """Let every probe of this process ask again as others do."""
    make, own = USUAL[name], Pacer.delay_seconds
    paces: WeakKeyDictionary[Pacer, Pace] = WeakKeyDictionary()

    def delay_seconds(self: Pacer, known: Snapshot) -> float:
        if not known.failures_in_row:
            return own(self, known)
        if known.failures_in_row == 1 or self not in paces:
            paces[self] = make(1, Random())
        return paces[self].delay_seconds(known.last_at, None)

    Pacer.delay_seconds = delay_seconds  # type: ignore[method-assign]  # in this process alone


async def main(url: str, count: int, seconds: float, *, leave: bool = False) -> None:
    """Run `count` instances, which start within the first second, for `seconds`."""
    begun = asyncio.Semaphore(0)
    tasks = [
        asyncio.create_task(instance(url, number / count, begun, leaves=leave))
        for number in range(count)
    ]
    for _ in tasks:
        await begun.acquire()
    print("begun", flush=True)
    await asyncio.wait(tasks, timeout=seconds)


if __name__ == "__main__":
    pace = sys.argv[4] if len(sys.argv) > 4 else ""
    if pace in USUAL:
        take_pace(pace)
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), leave=bool(pace)))
