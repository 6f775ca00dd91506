"""What a gate measures, and that measuring can neither break nor slow it."""

import logging
import subprocess
import sys

import anyio
import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from orchestrator import Stage
from orchestrator._gate.metrics import GateFigures, GateMetrics
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from orchestrator.otel import OpenTelemetryGateMetrics
from orchestrator.testing import ManualClock
from tests.asgi.gate_support import (
    LEAVE,
    App,
    Caller,
    Startup,
    http_scope,
    settled,
    websocket_scope,
)
from tests.otel.otel_support import Traced

pytestmark = pytest.mark.anyio


def values(traced: Traced, metric: str) -> dict[str, float]:
    """The numbers of a metric by the last part of their attribute."""
    return {
        name.partition("=")[2]: point.sum if isinstance(point, HistogramDataPoint) else point.value
        for name, point in traced.points(metric).items()
    }


async def test_a_forked_process_does_not_tell_what_its_parent_has_counted(traced: Traced) -> None:
    measured = OpenTelemetryGateMetrics(traced.meters)
    async with Startup() as startup, anyio.create_task_group() as tasks:
        used, fresh = (ReadinessGate(App(), startup, metrics=measured) for _ in range(2))
        startup.make_ready()
        await settled()
        tasks.start_soon(Caller(used, http_scope()).run)
        await settled()
        assert values(traced, "orchestrator.gate.admissions")["admitted"] == 1
        measured.forget_used()
        assert values(traced, "orchestrator.gate.admissions")["admitted"] == 0
        await Caller(fresh, http_scope()).run()  # made before the fork, and used after it
        assert values(traced, "orchestrator.gate.admissions")["admitted"] == 1


async def test_admissions_and_waits_by_outcome(traced: Traced) -> None:
    clock = ManualClock()
    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(
            App(),
            startup,
            hold_seconds=5,
            max_held=3,
            clock=clock,
            metrics=OpenTelemetryGateMetrics(traced.meters),
        )
        assert values(traced, "orchestrator.gate.held") == {"": 0}
        callers = [Caller(gate, websocket_scope()) for _ in range(4)]
        for caller in callers:
            tasks.start_soon(caller.run)
            await settled()
        assert values(traced, "orchestrator.gate.held") == {"": 3}
        await clock.advance(1)
        callers[0].give(LEAVE)
        await settled()
        await clock.advance(1)
        startup.make_ready()
        await settled()
        tasks.start_soon(Caller(gate, http_scope()).run)
        await settled()
        assert values(traced, "orchestrator.gate.held") == {"": 0}
        assert values(traced, "orchestrator.gate.admissions") == {
            "admitted": 3,
            "refused": 0,
            "left": 1,
            "overflow": 1,
            "timed_out": 0,
        }
        assert values(traced, "orchestrator.gate.held.duration") == {
            "admitted": pytest.approx(4),
            "left": pytest.approx(1),
        }
        point = traced.points("orchestrator.gate.held.duration")["orchestrator.outcome=admitted"]
        assert isinstance(point, HistogramDataPoint)
        assert point.count == 2
        assert point.explicit_bounds[-1] == 30
        tasks.cancel_scope.cancel()


async def test_closes_by_what_they_were_summed_over_gates(traced: Traced) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/crash":
            raise RuntimeError("a bug")
        await send({"type": "websocket.close", "code": 4000})

    measured = OpenTelemetryGateMetrics(traced.meters)
    async with Startup() as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        gates = [ReadinessGate(app, startup, metrics=measured) for _ in range(2)]
        closes = "orchestrator.websocket.closes"
        assert values(traced, closes) == {"1011": 0, "application_error": 0}
        for gate in gates:
            for path in ("/", "/crash"):
                await Caller(gate, websocket_scope(path)).run()
        assert values(traced, closes) == {"1011": 0, "application_error": 2, "4000": 2}


async def test_metrics_that_raise_are_logged_once_and_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(GateMetrics):
        def __init__(self) -> None:
            self.gates: list[GateFigures] = []

        def watch(self, figures: GateFigures) -> None:
            self.gates.append(figures)

        def held_for(self, seconds: float, outcome: str) -> None:  # the port's
            raise RuntimeError("no space left")

    broken = Broken()
    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(App(), startup, metrics=broken)
        callers = [Caller(gate, websocket_scope()) for _ in range(3)]
        for caller in callers:
            tasks.start_soon(caller.run)
        await settled()
        with caplog.at_level(logging.ERROR):
            startup.make_ready()
            await settled()
        assert [caller.sent[0]["type"] for caller in callers] == ["websocket.accept"] * 3
        assert broken.gates[0].admissions()["admitted"] == 3
        tasks.cancel_scope.cancel()
    assert caplog.text.count("this is logged only once") == 1
    assert "raised 3 times in all" in caplog.text


LATE = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from orchestrator.otel import OpenTelemetryGateMetrics

class Gate:
    held = 2
    def admissions(self): return {"admitted": 5}
    def websocket_closes(self): return {1011: 1}

measured = OpenTelemetryGateMetrics()
measured.watch(Gate())
measured.held_for(1.5, "admitted")
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
for _ in range(2):
    data = reader.get_metrics_data()
for metric in data.resource_metrics[0].scope_metrics[0].metrics:
    for point in metric.data.data_points:
        print(metric.name, getattr(point, "value", None) or getattr(point, "sum", 0))
"""


async def test_nothing_is_lost_before_the_provider_is_set() -> None:
    # The global provider can be set once in a process, so this needs one of its own.
    done = subprocess.run(  # noqa: ASYNC221  nothing else runs in this test
        [sys.executable, "-c", LATE], capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.splitlines()) == [
        "orchestrator.gate.admissions 5",
        "orchestrator.gate.held 2",
        "orchestrator.gate.held.duration 1.5",
        "orchestrator.websocket.closes 0",
        "orchestrator.websocket.closes 1",
    ]
