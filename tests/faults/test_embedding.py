"""Hostile surroundings: what observers and callbacks may do, forks, and signals in every stage."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace

import anyio
import anyio.to_thread
import pytest
import redis

from orchestrator import Observer, Orchestrator, Policy, Stage, StageChanged
from orchestrator.redis import RedisProbe
from states import Fact
from tests.faults.watching import QUICK, Diary, watched
from tests.redis_server import RedisServer, free_port

pytestmark = pytest.mark.long

STEADY = replace(QUICK, probe_interval_seconds=0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


# -- observers ------------------------------------------------------------------------------------


class Raises(Observer):
    """Raises `error` at every fact."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.told = 0

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
        self.told += 1
        raise self.error


@pytest.mark.anyio
async def test_an_observer_that_raises_goes_on_and_harms_no_other(server: RedisServer) -> None:
    errors: list[BaseException] = [RuntimeError("no"), ExceptionGroup("no", [ValueError()])]
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        errors.append(asyncio.CancelledError())  # trio's cannot be made by hand
    observers = [Raises(error) for error in errors]
    async with watched(RedisProbe(server.url), STEADY, *observers) as (_, diary):
        await diary.until(lambda: len(diary.attempts) > 3)
    assert all(observer.told > 3 for observer in observers)


@pytest.mark.anyio
async def test_an_observer_that_blocks_makes_the_loop_late_and_nothing_else(
    server: RedisServer,
) -> None:
    class Blocks(Observer):
        times = 0

        def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
            self.times += 1
            if 5 < self.times <= 6:
                time.sleep(0.8)  # longer than a whole attempt may take

    policy = replace(STEADY, failures_to_degrade=1, attempt_timeout_seconds=0.6)
    async with watched(RedisProbe(server.url), policy, Blocks()) as (_, diary):
        await diary.until(lambda: len(diary.attempts) > 12)
        assert diary.failures == []
        assert diary.stages == []


@pytest.mark.anyio
async def test_an_observer_may_call_back(server: RedisServer) -> None:
    class CallsBack(Observer):
        startup: Orchestrator | None = None

        def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
            if self.startup is not None:
                self.startup.explain()
                if self.startup.running:
                    self.startup.subscribe()
                    # Posted, and taken after this fact: it never nests.
                    self.startup.condition("mine").set(changed is None)

    nosy = CallsBack()
    diary = Diary()
    nosy.startup = Orchestrator(
        RedisProbe(server.url), policy=STEADY, conditions=["mine"], observers=[nosy, diary]
    )
    async with nosy.startup as startup:
        await diary.until(lambda: len(diary.facts) > 50)
        assert startup.running
    numbers = [change.sequence for change in diary.changes]
    assert numbers == list(range(1, len(numbers) + 1))


# -- callbacks ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_callbacks_that_raise_cancel_or_call_back_hurt_only_themselves(
    server: RedisServer,
) -> None:
    seen: list[str] = []
    startup = Orchestrator(RedisProbe(server.url), policy=STEADY, conditions=["a"])

    @startup.on(Stage.READY)
    def raises(_: StageChanged) -> None:
        raise RuntimeError("no")

    @startup.on(Stage.READY)
    async def cancels_itself(_: StageChanged) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await anyio.sleep_forever()
        seen.append("cancelled itself")

    @startup.on(Stage.READY)
    async def calls_back(event: StageChanged) -> None:
        startup.condition("a").set(False, reason="by a callback")
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=20)
        seen.append(f"degraded after {event.current}")

    async with startup:
        startup.condition("a").set(True)
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=20)
        with anyio.fail_after(10):
            while len(seen) < 2:  # a callback's end has no event
                await anyio.sleep(0.002)
        assert sorted(seen) == ["cancelled itself", "degraded after ready"]


# -- more than one --------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_two_orchestrators_do_not_know_each_other(server: RedisServer) -> None:
    async with watched(RedisProbe(server.url), STEADY) as (first, diary):
        elsewhere = RedisProbe(f"redis://127.0.0.1:{free_port()}")
        async with Orchestrator(
            elsewhere, policy=Policy(budget_seconds=0.2, attempt_timeout_seconds=0.1)
        ) as second:
            await second.wait_for(Stage.DEGRADED, timeout_seconds=20)
            assert first.stage is Stage.READY
        diary.forget()
        await diary.until(lambda: len(diary.attempts) > 3)
        assert diary.failures == []


@pytest.mark.anyio
async def test_the_same_orchestrator_and_probe_start_again(server: RedisServer) -> None:
    diary = Diary()
    startup = Orchestrator(RedisProbe(server.url), policy=QUICK, observers=[diary])
    for _ in range(3):
        diary.forget()
        async with startup:
            await startup.wait_for(Stage.READY, timeout_seconds=20)
        assert diary.failures == []


# -- fork -----------------------------------------------------------------------------------------

_FORKS = """
import os, sys
import anyio
from orchestrator import Orchestrator, Policy, Stage
from orchestrator.redis import RedisProbe

url, backend, warm = sys.argv[1:]
probe = RedisProbe(url)
policy = Policy(attempt_timeout_seconds=20)  # each process imports redis first
startup = Orchestrator(probe, policy=policy)  # module-level, as under a server that preloads

async def ask():
    result = await probe.attempt(20)
    assert result.failure is None, result.failure

async def serve():
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=20)

if warm == "warm":
    anyio.run(ask, backend=backend)  # the parent has a thread and a connection now
children = []
for does in (serve, serve, probe.aclose):
    child = os.fork()
    if not child:
        anyio.run(does, backend=backend)
        os._exit(0)                  # as a worker does: without the parent's clean-up
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
anyio.run(ask, backend=backend)      # the children have left the parent's connection alone
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("warm", ["cold", "warm"])
def test_a_fork_after_the_probe_was_made(server: RedisServer, backend: str, warm: str) -> None:
    with redis.Redis(port=server.port, protocol=2, single_connection_client=True) as admin:
        before = admin.info("stats")["total_connections_received"]
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(_FORKS), server.url, backend, warm],
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == b"done\n", done.stderr.decode()
        # One for each process that asks: nobody talks over the connection of another.
        assert admin.info("stats")["total_connections_received"] - before == 3


# -- signals --------------------------------------------------------------------------------------

_SERVES = """
import sys, uvicorn
from orchestrator import Observer, Orchestrator, Policy, Stage
from orchestrator.asgi import ReadinessGate, health_app
from orchestrator.redis import RedisProbe

class Tells(Observer):
    def observed(self, fact, changed):
        if changed is not None:
            print(changed.current, flush=True)
    def stopped(self, at):
        print("stopped", flush=True)

url, budget, grace = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
policy = Policy(budget_seconds=budget, grace_seconds=grace, attempt_timeout_seconds=0.2)
startup = Orchestrator(RedisProbe(url), policy=policy, observers=[Tells()])
app = ReadinessGate(health_app(startup), startup, manage_lifespan=True)
print("booting", flush=True)
uvicorn.run(app, port=0, log_level="warning")
"""


@pytest.mark.parametrize("stage", list(Stage))
def test_sigterm_in_every_stage(server: RedisServer, stage: Stage) -> None:
    url = server.url
    if stage in (Stage.PROBING_REDIS, Stage.DEGRADED):
        url = f"redis://127.0.0.1:{free_port()}"
    budget, grace = ("0.3", "0") if stage is Stage.DEGRADED else ("30", "0")
    if stage is Stage.GRACE:
        grace = "30"
    with subprocess.Popen(
        [sys.executable, "-c", _SERVES, url, budget, grace],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while (line := process.stdout.readline()).strip() != stage:
            assert line, process.stderr.read()
        process.send_signal(signal.SIGTERM)
        sent_at = time.perf_counter()
        # uvicorn ends by the signal that it was sent, once it has shut down.
        assert process.wait(10) == -signal.SIGTERM
        assert time.perf_counter() - sent_at < 5
        said = process.stdout.read()
        assert "Traceback" not in process.stderr.read()
        if stage is not Stage.BOOTING:
            assert said.endswith("stopped\n")
