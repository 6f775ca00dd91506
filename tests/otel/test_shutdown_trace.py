"""A drain as a trace of its own, linked to the start-up, and as a metric."""

import anyio
import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.trace import StatusCode

from orchestrator import Policy, Stage
from tests.asgi.gate_support import until
from tests.otel.otel_support import Traced

pytestmark = pytest.mark.anyio

TIMES = Policy(drain_announce_seconds=3.0, drain_close_seconds=1.0, drain_limit_seconds=10.0)


async def test_a_shutdown_is_a_linked_trace_in_which_nothing_that_falls_is_an_error() -> None:
    traced = Traced()
    startup = traced.orchestrator(conditions=["listener"], policy=TIMES)
    async with startup, anyio.create_task_group() as tasks:
        startup.condition("listener").set(True)
        await startup.wait_for(Stage.READY)
        tasks.start_soon(startup.drain, "SIGTERM")
        await until(lambda: startup.draining)
        startup.condition("listener").set(False, reason="its task ended")
        await traced.clock.advance(2.0)
        await traced.clock.advance(1.1)
        await until(lambda: startup.explain().draining.endswith("it is over"))
    assert [span.name for span in traced.roots] == ["startup", "shutdown"]
    root = traced.one("shutdown")
    assert root.attributes is not None
    assert root.attributes["orchestrator.reason"] == "SIGTERM"
    assert root.attributes["orchestrator.outcome"] == "stopped"
    assert root.status.status_code is StatusCode.UNSET
    (link,) = [one for one in root.links if one.attributes == {"orchestrator.link": "startup"}]
    assert link.context.trace_id == traced.one("startup").context.trace_id
    inner = {span.name: span for span in traced.trace_of(root)}
    assert {"shutdown", "shutdown ready", "condition listener"} <= set(inner)
    assert inner["condition listener"].status.status_code is StatusCode.UNSET
    (point,) = traced.points("orchestrator.drain.duration").values()
    assert isinstance(point, HistogramDataPoint)
    assert point.count == 1
    assert point.sum == pytest.approx(3.1, abs=0.05)


async def test_a_drain_cuts_a_startup_short_and_then_tells_of_itself() -> None:
    traced = Traced()
    startup = traced.orchestrator(
        conditions=["listener"],
        policy=Policy(drain_close_seconds=0.0, drain_limit_seconds=0.0),
    )
    async with startup:
        await startup.wait_for(Stage.GRACE)
        await startup.drain()
    assert [span.name for span in traced.roots] == ["startup", "shutdown"]
    outcomes = [dict(span.attributes or {})["orchestrator.outcome"] for span in traced.roots]
    assert outcomes == ["stopped", "stopped"]
    assert traced.one("shutdown grace").parent is not None
