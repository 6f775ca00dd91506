"""A process whose interpreter is held by C code, and a Redis that has nothing to do with it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import anyio
import pytest

from orchestrator import Fact, Observer, Orchestrator, Policy, ProbeFailed, Stage, StageChanged
from orchestrator.redis import RedisProbe
from tests.redis_server import FakeServer, RedisServer, silent

pytestmark = [pytest.mark.long, pytest.mark.anyio]

_NUMBERS = 5_000_000


@contextmanager
def held_interpreter(seconds: float, threads: int = 1) -> Iterator[None]:
    """Threads that hold the interpreter for so long, again and again, as a parser in C may."""
    # By this thread's own time: what others take from it makes each sum longer, never shorter.
    began_at = time.thread_time()
    sum(range(_NUMBERS))
    size = int(_NUMBERS * seconds / (time.thread_time() - began_at))
    over = Event()

    def hold() -> None:
        while not over.is_set():
            sum(range(size))

    holding = [Thread(target=hold, daemon=True) for _ in range(threads)]
    for thread in holding:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in holding:
            thread.join()


class Failures(Observer):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
        if isinstance(fact, ProbeFailed):
            self.reasons.append(fact.failure.reason)


@pytest.mark.parametrize(("seconds", "threads"), [(0.4, 1), (0.2, 2)])
async def test_a_healthy_redis_is_not_called_dead(seconds: float, threads: int) -> None:
    failures = Failures()
    policy = Policy(attempt_timeout_seconds=0.3, probe_interval_seconds=0.1)
    with RedisServer() as server:
        async with Orchestrator(
            RedisProbe(server.url), policy=policy, observers=[failures]
        ) as startup:
            await startup.wait_for(Stage.READY)
            asked = startup.explain().attempts
            with anyio.fail_after(120), held_interpreter(seconds, threads):
                while startup.explain().attempts < asked + 2:  # no event for it
                    await anyio.sleep(0.05)
            assert failures.reasons == []
            assert startup.stage is Stage.READY


@pytest.mark.parametrize("cold", [True, False])
async def test_no_attempt_fails_because_of_ourselves(cold: bool) -> None:
    with RedisServer() as server:
        probe = RedisProbe(server.url)
        if not cold:
            assert (await probe.attempt(5)).failure is None
        with held_interpreter(0.5):
            results = [await probe.attempt(0.2) for _ in range(2)]
        assert [result for result in results if result.failure and not result.void] == []
        assert (await probe.attempt(5)).failure is None
        await probe.aclose()


@pytest.mark.parametrize("dead", ["frozen", "gone"])
async def test_a_redis_that_is_dead_is_found_so_all_the_same(dead: str) -> None:
    policy = Policy(attempt_timeout_seconds=0.2, probe_interval_seconds=0.1, failures_to_degrade=2)
    with RedisServer() as server:
        async with Orchestrator(RedisProbe(server.url), policy=policy) as startup:
            await startup.wait_for(Stage.READY)
            with held_interpreter(0.3):
                server.freeze() if dead == "frozen" else server.kill()
                await startup.wait_for(Stage.DEGRADED, timeout_seconds=120)
            if dead == "frozen":
                server.thaw()
            else:
                server.start()
            await startup.wait_for(Stage.READY, timeout_seconds=60)


async def test_a_server_that_had_its_time_has_failed_however_late_that_is_seen() -> None:
    with FakeServer(silent) as fake:
        probe = RedisProbe(fake.url)
        assert (await probe.attempt(0.1)).failure is not None  # the connection stands by now
        with held_interpreter(0.3):
            result = await probe.attempt(0.05)
        assert result.failure is not None
        assert not result.void
        assert "this process itself was late" in result.failure.reason
        await probe.aclose()
