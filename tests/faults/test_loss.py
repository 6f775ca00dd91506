"""A Redis that goes away under a ready service, and what only looks like it."""

import time
from collections.abc import Iterator
from dataclasses import replace

import anyio
import anyio.to_thread
import pytest
import redis
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader

from orchestrator import Orchestrator, Stage
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from states import ProbeFailed, ProbeSucceeded
from tests.faults.watching import QUICK, Diary, watched
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_a_killed_redis_is_noticed_at_once_and_confirmed(server: RedisServer) -> None:
    async with watched(RedisProbe(server.url)) as (startup, diary):
        started_at = time.perf_counter()
        server.kill()
        degraded = await diary.reaches(Stage.DEGRADED)
        assert time.perf_counter() - started_at < 5  # the next attempt was due in a minute
        confirming = diary.attempts[: diary.attempts.index(degraded.cause) + 1]  # type: ignore[arg-type]  # a failure
        assert len(confirming) == QUICK.failures_to_degrade
        assert startup.explain().waits_for[0] == "Redis to answer"
        await anyio.to_thread.run_sync(server.start)
        await diary.reaches(Stage.READY)
        assert diary.stages == [Stage.DEGRADED, Stage.GRACE, Stage.READY]


async def test_a_restart_that_is_quicker_than_the_confirmation_is_no_outage(
    server: RedisServer,
) -> None:
    patient = replace(QUICK, confirm_interval_seconds=0.6)
    async with watched(RedisProbe(server.url), patient) as (startup, diary):
        server.kill()
        await diary.until(lambda: diary.failures)
        await anyio.to_thread.run_sync(server.start)
        await diary.until(lambda: startup.explain().failures_in_row == 0)
        assert diary.stages == []


async def test_a_dropped_connection_is_no_outage(server: RedisServer) -> None:
    with redis.Redis(port=server.port, protocol=2, single_connection_client=True) as admin:
        async with watched(RedisProbe(server.url)) as (startup, diary):
            for round_ in range(1, 6):
                assert admin.client_kill_filter(skipme=True, _type="normal") == 1
                await diary.until(lambda: len(diary.attempts) >= round_)  # noqa: B023  awaited
            assert diary.failures == []
            assert startup.stage is Stage.READY


async def test_a_redis_that_is_cut_off(server: RedisServer) -> None:
    # Nothing tells that a server has stopped answering, but its silence.
    pace = replace(QUICK, probe_interval_seconds=0.05, attempt_timeout_seconds=0.15)
    async with watched(RedisProbe(server.url), pace) as (_, diary):
        server.freeze()
        degraded = await diary.reaches(Stage.DEGRADED)
        last = diary.attempts.index(degraded.cause)  # type: ignore[arg-type]  # a failure
        row = [type(attempt) for attempt in diary.attempts[: last + 1]]
        assert row[-pace.failures_to_degrade :] == [ProbeFailed] * pace.failures_to_degrade
        assert ProbeFailed not in row[: -pace.failures_to_degrade][-1:]
        diary.forget()
        await diary.until(lambda: diary.failures)
        server.thaw()
        await diary.reaches(Stage.READY)
        assert diary.stages[0] is Stage.GRACE


async def test_a_redis_that_freezes_in_grace(server: RedisServer) -> None:
    policy = replace(QUICK, grace_seconds=0.5, attempt_timeout_seconds=0.15)
    diary = Diary()
    async with Orchestrator(RedisProbe(server.url), policy=policy, observers=[diary]) as startup:
        await startup.wait_for(Stage.GRACE, timeout_seconds=10)
        server.freeze()
        await diary.until(lambda: startup.stage is Stage.PROBING_REDIS)
        server.thaw()
        await startup.wait_for(Stage.READY, timeout_seconds=10)
    # On a busy machine an attempt of 0.15 s may fail once more.
    back_and_forth = [Stage.PROBING_REDIS, Stage.GRACE]
    rounds = len(diary.stages) // 2
    assert rounds >= 2
    assert diary.stages == [*back_and_forth * rounds, Stage.READY]


async def test_a_permanent_failure_is_rechecked_at_its_slow_pace() -> None:
    policy = replace(QUICK, permanent_retry_seconds=0.3)
    diary = Diary()
    with RedisServer() as server, redis.Redis(port=server.port, protocol=2) as admin:
        admin.config_set("requirepass", "the-old-one")
        probe = RedisProbe(server.url.replace("127.0", ":the-new-one@127.0"))
        async with Orchestrator(probe, policy=policy, observers=[diary]) as startup:
            await diary.reaches(Stage.DEGRADED)
            await diary.until(lambda: len(diary.failures) == 3)
            apart = [
                later.at - sooner.at
                for sooner, later in zip(diary.failures, diary.failures[1:], strict=False)
            ]
            assert min(apart) > 0.25
            admin.config_set("requirepass", "the-new-one")  # the secret was rotated
            await startup.wait_for(Stage.READY, timeout_seconds=10)


class Blocker:
    """Blocks the event loop, either while an attempt is under way or between two."""

    def __init__(self, url: str, seconds: float) -> None:
        blocker = self

        class Probe(RedisProbe):
            async def attempt(self, timeout_seconds: float):  # type: ignore[no-untyped-def]  # noqa: ANN202  as in RedisProbe
                if blocker.armed and blocker.tasks is not None:
                    blocker.armed = False
                    blocker.tasks.start_soon(blocker.block)
                return await super().attempt(timeout_seconds)

        self.probe = Probe(url)
        self.armed = False
        self.tasks: anyio.abc.TaskGroup | None = None
        self._seconds = seconds

    async def block(self) -> None:
        time.sleep(self._seconds)  # this is the fault


@pytest.mark.parametrize("during_an_attempt", [True, False])
async def test_a_blocked_event_loop_is_not_taken_for_a_dead_redis(
    server: RedisServer, during_an_attempt: bool
) -> None:
    reader = InMemoryMetricReader()
    metrics = OpenTelemetryObserver(meter_provider=MeterProvider([reader]))
    blocker = Blocker(server.url, seconds=1.1)
    pace = replace(
        QUICK, probe_interval_seconds=0.05, failures_to_degrade=1, attempt_timeout_seconds=0.6
    )
    async with (
        watched(blocker.probe, pace, metrics) as (startup, diary),
        anyio.create_task_group() as blocker.tasks,
    ):
        if during_an_attempt:
            blocker.armed = True
        else:
            await diary.until(lambda: startup.explain().next_probe_seconds is not None)
            await blocker.block()
        await diary.until(lambda: max(a.loop_lag_seconds for a in diary.attempts or [_NONE]) > 0.5)
        explained = startup.explain()
        assert f"the event loop was {explained.loop_lag_seconds:.2f} s late" in str(explained)
        await diary.until(lambda: len(diary.attempts) > 5)
        assert diary.failures == []
        assert diary.stages == []
        assert max(attempt.latency_seconds for attempt in diary.attempts) < 0.6
        lagging = [attempt for attempt in diary.attempts if attempt.loop_lag_seconds > 0.5]
        assert len(lagging) == 1
        assert lag_metric(reader) == pytest.approx(lagging[0].loop_lag_seconds)
        assert explained.loop_lag_seconds == lagging[0].loop_lag_seconds


_NONE = ProbeSucceeded(0.0, 0.0)


def lag_metric(reader: InMemoryMetricReader) -> float:
    """The longest lag that was measured."""
    data = reader.get_metrics_data()
    assert data is not None
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name == "orchestrator.probe.loop_lag":
                    (point,) = metric.data.data_points
                    assert isinstance(point, HistogramDataPoint)
                    return point.max
    raise AssertionError("there is no such metric")
