"""Many instances in one process: each with its own orchestrator and probe, all on one Redis.

Run as `python -m tests.benchmarks.herd_process URL COUNT SECONDS`. It prints a line once all have
begun, and then one for each instance that gets its first answer: the time, in monotonic seconds.
"""

import asyncio
import sys
import time
from dataclasses import replace

import redis.asyncio  # noqa: F401  as a service that uses it has done long before

from orchestrator import Orchestrator, Stage
from orchestrator.redis import RedisProbe
from orchestrator.settings import Settings

POLICY = replace(Settings.from_environment().policy, budget_seconds=1000)
"""Nobody is degraded in the outage: the stage makes no difference to the pace."""


async def instance(url: str, delay_seconds: float, begun: asyncio.Semaphore) -> None:
    """One instance, from its start until it is ended."""
    await asyncio.sleep(delay_seconds)
    async with Orchestrator(RedisProbe(url), policy=POLICY) as startup:
        begun.release()
        await startup.wait_for(Stage.READY)
        print(time.monotonic(), flush=True)  # that is how the result gets out
        await asyncio.sleep(3600)


async def main(url: str, count: int, seconds: float) -> None:
    """Run `count` instances, which start within the first second, for `seconds`."""
    begun = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(instance(url, number / count, begun)) for number in range(count)]
    for _ in tasks:
        await begun.acquire()
    print("begun", flush=True)
    await asyncio.wait(tasks, timeout=seconds)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
