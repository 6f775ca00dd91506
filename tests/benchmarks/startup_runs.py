"""One start-up of a service whose Redis is up, on either event loop, and how late the loop was.

The service has two things of its own to do before it can serve, side by side; what a candidate
adds to that is what it costs. `python -m tests.benchmarks.startup_runs CANDIDATE BACKEND URL` runs
one in a fresh process, and prints what `Run` holds.
"""

import sys
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import anyio
import anyio.to_thread

from orchestrator import Condition, Orchestrator, Platform, Policy, Stage
from orchestrator.redis import RedisProbe

OURS, BY_HAND = "the orchestrator", "PING by hand beside the work"
ALONE, SLEEP = "the work alone", "a blocking sleep of 0.5 s before the work"
GCP, GRACE = "the orchestrator with Google Cloud's defaults", "the grace alone, beside the work"

WORK_SECONDS = {"listener": 0.05, "cache": 0.03}
LONG_WORK_SECONDS = {"listener": 0.2, "cache": 0.1}
SLEEP_SECONDS = 0.5
_BEAT_SECONDS = 0.001


class Run(NamedTuple):
    """What was measured, in milliseconds: from entering to ready, and the loop's longest stall."""

    ready_ms: float
    stall_ms: float


async def _alone(_: str, work: dict[str, float]) -> None:
    async with anyio.create_task_group() as tasks:
        for seconds in work.values():
            tasks.start_soon(anyio.sleep, seconds)


async def _sleep(url: str, work: dict[str, float]) -> None:
    time.sleep(SLEEP_SECONDS)  # the very thing that is compared with
    await _alone(url, work)


async def _by_hand(url: str, work: dict[str, float]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_alone, url, work)
        tasks.start_soon(_ping, url)


async def _ping(url: str) -> None:
    import redis.asyncio  # in a fresh process its import is a part of the cost

    if _on_trio():  # redis-py's own client for it would be a thread, too
        await anyio.to_thread.run_sync(redis.Redis.from_url(url).ping)
        return
    async with redis.asyncio.Redis.from_url(url) as client:
        await client.ping()


def _on_trio() -> bool:
    return "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_run()


async def _ours(url: str, work: dict[str, float], platform: Platform = Platform.OTHER) -> None:
    startup = Orchestrator(
        RedisProbe(url), policy=Policy.for_platform(platform), conditions=list(work)
    )
    async with startup, anyio.create_task_group() as tasks:
        for name, seconds in work.items():
            tasks.start_soon(_fulfil, startup.condition(name), seconds)
        await startup.wait_for(Stage.READY)
        _ready.append(time.perf_counter())


async def _fulfil(condition: Condition, seconds: float) -> None:
    await anyio.sleep(seconds)
    condition.set(True)


async def _gcp(url: str, work: dict[str, float]) -> None:
    await _ours(url, work, Platform.CLOUD_RUN)


async def _grace(url: str, work: dict[str, float]) -> None:
    grace = Policy.for_platform(Platform.CLOUD_RUN).grace_seconds
    await _alone(url, work | {"grace": grace})


Candidate = Callable[[str, dict[str, float]], Awaitable[None]]

CANDIDATES: dict[str, Candidate] = {
    OURS: _ours,
    BY_HAND: _by_hand,
    ALONE: _alone,
    SLEEP: _sleep,
    GCP: _gcp,
    GRACE: _grace,
}

_ready: list[float] = []
"""When the candidate was ready, if that is not when it ended."""


async def run(name: str, url: str, work: dict[str, float]) -> Run:
    """Run one candidate, with a heartbeat beside it."""
    longest = [0.0]
    _ready.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_beat, longest)
        await anyio.sleep(0.02)  # the heart beats
        longest[0] = 0.0
        began = time.perf_counter()
        await CANDIDATES[name](url, work)
        ended = time.perf_counter()
        await anyio.sleep(_BEAT_SECONDS)  # a stall at the very end is seen, too
        tasks.cancel_scope.cancel()
    return Run(((_ready or [ended])[0] - began) * 1e3, longest[0] * 1e3)


async def _beat(longest: list[float]) -> None:
    while True:
        due = time.perf_counter() + _BEAT_SECONDS
        await anyio.sleep(_BEAT_SECONDS)
        longest[0] = max(longest[0], time.perf_counter() - due)


def main() -> None:
    """Run what the command line names."""
    name, backend, url = sys.argv[1:]
    print(*anyio.run(run, name, url, WORK_SECONDS, backend=backend))


if __name__ == "__main__":
    main()
