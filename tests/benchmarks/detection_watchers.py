"""Ways to notice that a Redis that answered does so no longer: ours, and polling.

A poll is redis-py's PING with a timeout of 1 s, as long as an attempt of ours may take. It takes
Redis for lost at the first failure, or at the third in a row, as ours does.
"""

import asyncio
import time

import redis

from orchestrator import Orchestrator, Stage
from orchestrator.redis import RedisProbe
from tests.benchmarks.detection_candidates import Ping
from tests.benchmarks.detection_crew import Candidate, Job, Outcome, Run


async def ours(job: Job) -> Outcome:
    known: list[float] = []
    async with Orchestrator(RedisProbe(job.url)) as startup:
        await startup.wait_for(Stage.READY)
        async for event in startup.subscribe():
            if event.current is Stage.DEGRADED:
                known.append(time.monotonic())
                startup.stop()
    return Outcome(known[0], resumed=len(known))


def poll(seconds: float, failures: int = 1) -> Run:
    """Ask every so many seconds, until so many failures in a row."""

    async def run(job: Job) -> Outcome:
        ping = Ping(job.url)
        await asyncio.sleep(job.phase * seconds)
        failed = 0
        while True:
            try:
                await ping()
                failed = 0
            except redis.RedisError:
                failed += 1
            if failed == failures:
                return await ping.outcome()
            await asyncio.sleep(seconds)

    return run


OURS, OURS_TRIO = "ours (asyncio)", "ours (trio)"
EQUAL = "poll every 5 s"
"""It asks as often as ours does."""
EQUAL_THRICE = "poll every 5 s, 3 failures"

CANDIDATES = {
    OURS: Candidate(ours),
    OURS_TRIO: Candidate(ours, backend="trio"),
    "poll every 1 s": Candidate(poll(1)),
    EQUAL: Candidate(poll(5)),
    EQUAL_THRICE: Candidate(poll(5, failures=3)),
    "poll every 10 s": Candidate(poll(10)),
    "poll every 30 s": Candidate(poll(30)),
}
SLOWEST_SECONDS = 30.0
