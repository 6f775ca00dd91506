"""The metrics: names, units, buckets, values, and a meter provider that comes late."""

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from orchestrator import Orchestrator
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ScriptedProbe
from tests.otel.otel_support import BORN_AT, TimedProbe, Traced

pytestmark = pytest.mark.anyio

REDIS = "db.namespace=2 db.system.name=redis{} server.address=redis.internal server.port=6380"


def histogram(traced: Traced, metric: str, attributes: str) -> HistogramDataPoint:
    point = traced.points(metric)[attributes]
    assert isinstance(point, HistogramDataPoint)
    return point


async def test_the_start_is_measured_from_the_process_s_start(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([REFUSED, None])) as startup:
        await traced.clock.advance(3.0)
        assert startup.latest is not None
        took = startup.latest.at - BORN_AT
    point = histogram(traced, "orchestrator.startup.duration", "orchestrator.outcome=ready")
    assert point.count == 1
    assert point.sum == pytest.approx(took)
    assert point.explicit_bounds[0] == 0.05
    assert point.explicit_bounds[-1] == 240


async def test_a_failed_start_says_why(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([WRONG_PASSWORD])):
        await traced.clock.advance(1.0)
    assert set(traced.points("orchestrator.startup.duration")) == {
        "error.type=AuthenticationError orchestrator.outcome=degraded"
    }


async def test_stages_and_transitions_are_counted(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([None, REFUSED, None])):
        await traced.clock.advance(5.0)
    assert traced.numbers("orchestrator.stage.transitions") == {
        "orchestrator.stage.from=booting orchestrator.stage.to=probing_redis": 1,
        "orchestrator.stage.from=probing_redis orchestrator.stage.to=grace": 2,
        "orchestrator.stage.from=grace orchestrator.stage.to=probing_redis": 1,
        "orchestrator.stage.from=grace orchestrator.stage.to=ready": 1,
    }
    booting = histogram(traced, "orchestrator.stage.duration", "orchestrator.stage=booting")
    assert booting.count == 1
    assert booting.sum == pytest.approx(1.5)
    grace = histogram(traced, "orchestrator.stage.duration", "orchestrator.stage=grace")
    assert grace.count == 2


async def test_attempts_are_measured_without_the_loop_s_lag(traced: Traced) -> None:
    async with traced.orchestrator(TimedProbe(traced.clock, 0.02, 0.03, REFUSED, None)):
        await traced.clock.advance(3.0)
    failed = histogram(
        traced,
        "orchestrator.probe.duration",
        REDIS.format(" error.type=ConnectionRefusedError"),
    )
    assert failed.count == 1
    assert failed.sum == pytest.approx(0.02)
    good = histogram(traced, "orchestrator.probe.duration", REDIS.format(""))
    lag = histogram(traced, "orchestrator.probe.loop_lag", "")
    assert lag.count == good.count + 1
    assert lag.sum == pytest.approx(0.03 * lag.count)
    assert max(good.explicit_bounds) == 5


async def test_one_stage_is_current_and_every_stage_has_a_series(traced: Traced) -> None:
    probe = ScriptedProbe([REFUSED])
    async with traced.orchestrator(probe):
        assert traced.current_stages == ["probing_redis"]
        probe.then(None)
        await traced.clock.advance(3.0)
        assert traced.current_stages == ["ready"]
        assert traced.current_stages == ["ready"]  # still, though nothing was measured since
    assert traced.current_stages == []


async def test_a_meter_provider_that_is_set_late_loses_nothing(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = OpenTelemetryObserver()
    async with Orchestrator(
        ScriptedProbe([REFUSED, None]), clock=traced.clock, observers=[observer]
    ):
        await traced.clock.advance(3.0)
        # As if set now: the API's global may be set once in a process only.
        monkeypatch.setattr(metrics, "get_meter_provider", lambda: traced.meters)
        await traced.clock.advance(10.0)
        assert observer.wait_until_written(5.0)
        assert traced.current_stages == ["ready"]
    assert sum(traced.numbers("orchestrator.stage.transitions").values()) == 3
    assert "orchestrator.outcome=ready" in traced.points("orchestrator.startup.duration")
