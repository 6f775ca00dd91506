"""What still arrives when something goes wrong around it, or comes late."""

import logging
import time
from collections.abc import Callable

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.context import Context
from opentelemetry.sdk import _logs as logs_sdk
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor

from orchestrator import Orchestrator, Policy, Stage, StartupContext, Target
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ScriptedProbe
from states import BootFinished, StartupMachine
from tests.otel.otel_support import Traced, attributes, times

pytestmark = pytest.mark.anyio


@pytest.mark.skipif(
    not hasattr(logs_sdk, "ReadableLogRecord"),
    reason="this OpenTelemetry has no log events that can be read",
)
@pytest.mark.parametrize("order", ["T L M", "T ML", "L TM", "L M T", "M T L", "TL M", "M L T"])
async def test_providers_may_be_set_in_any_order_and_at_any_time(
    traced: Traced, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    from opentelemetry.sdk._logs.export import (  # older ones lack it
        InMemoryLogRecordExporter,
        SimpleLogRecordProcessor,
    )

    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call] # the SDK's
    loggers = logs_sdk.LoggerProvider(shutdown_on_exit=False)
    loggers.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    # As if set then: the API's globals may be set once in a process only.
    setting: dict[str, Callable[[], None]] = {
        "T": lambda: monkeypatch.setattr(trace, "get_tracer_provider", lambda: traced.tracers),
        "M": lambda: monkeypatch.setattr(metrics, "get_meter_provider", lambda: traced.meters),
        "L": lambda: monkeypatch.setattr(_logs, "get_logger_provider", lambda: loggers),
    }
    observer = OpenTelemetryObserver(events="both")
    startup = Orchestrator(
        ScriptedProbe([WRONG_PASSWORD]), clock=traced.clock, observers=[observer]
    )
    async with startup:
        for moment in order.split():
            await traced.clock.advance(7.0)
            assert observer.wait_until_written(5.0)
            for signal in moment:
                setting[signal]()
    assert observer.wait_until_written(5.0)
    assert [span.name for span in traced.roots] == ["startup", "recovery"]
    assert len(traced.one("startup").events) == 2
    assert len(exporter.get_finished_logs()) == 2
    assert sum(traced.numbers("orchestrator.stage.transitions").values()) == 2
    loggers.shutdown()


class Faulty(SpanProcessor):
    """The application's own, with a bug that shows once."""

    def __init__(self) -> None:
        self.raised = False

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # the SDK's
        if not self.raised:
            self.raised = True
            raise LookupError("a bug")

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing."""


async def test_a_trace_that_cannot_be_written_costs_no_metrics_and_no_later_trace(
    traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    traced.tracers.add_span_processor(Faulty())
    probe = ScriptedProbe()
    with caplog.at_level(logging.ERROR, "orchestrator"):
        async with traced.orchestrator(probe):
            await traced.clock.advance(3.0)
            probe.then(REFUSED)
            await traced.clock.advance(3.0)
            assert [span.name for span in traced.roots] == ["degrade"]
            assert traced.current_stages == ["degraded"]
            await traced.clock.advance(3.0)
    assert [span.name for span in traced.roots] == ["degrade", "recovery"]
    assert traced.current_stages == []
    assert list(traced.points("orchestrator.startup.duration")) == ["orchestrator.outcome=ready"]
    assert [record.getMessage() for record in caplog.records] == [
        "telemetry: traces could not be written; this is logged only once"
    ]


async def test_an_outage_after_the_machine_slept_is_dated_by_the_wall_clock(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = ScriptedProbe()
    async with traced.orchestrator(probe):
        await traced.clock.advance(3.0)
        began = times(traced.one("startup"))[0]
        slept = time.time_ns() + 3600 * 10**9
        monkeypatch.setattr("orchestrator.otel._observer.time_ns", lambda: slept)
        probe.then(REFUSED)
        await traced.clock.advance(3.0)
        probe.then(None)
        await traced.clock.advance(3.0)
    degrade, recovery = traced.one("degrade"), traced.one("recovery")
    assert times(degrade)[0] == slept
    assert times(recovery)[0] == times(degrade)[1]
    assert times(degrade)[0] - began > 3600 * 10**9


async def test_a_start_that_is_cut_short_says_what_it_waited_for(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([REFUSED]), conditions=["listener"]) as startup:
        startup.condition("listener").set(False, reason="reading the history")
        await traced.clock.advance(1.0)
    told = attributes(traced.one("startup"))
    assert told["orchestrator.outcome"] == "stopped"
    assert told["orchestrator.stage.stopped"] == "probing_redis"
    assert told["orchestrator.reason"] == (
        "stopped in probing_redis: nothing listens there;"
        " condition listener does not hold (reading the history)"
    )
    assert "error.type" not in told


async def test_a_loop_that_hangs_from_the_first_fact_on_is_seen_in_its_stage() -> None:
    """Nothing but the first fact is told, and nobody hurries the writer."""
    recorded = Traced()
    observer = OpenTelemetryObserver(None, recorded.meters)
    observer.started(StartupContext(Policy(), Target(), {}, 0.0, 1.0, 10**18))
    fact = BootFinished(1.0)
    observer.observed(fact, StartupMachine().receive(fact))
    loop = observer._loop
    assert loop is not None
    assert loop.begun
    assert observer.wait_until_written(5.0)
    assert recorded.current_stages == ["probing_redis"]
    observer.stopped(2.0)
    assert observer.wait_until_written(5.0)
    recorded.meters.shutdown()


async def test_one_observer_is_for_one_running_orchestrator(
    traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    another = traced.orchestrator(ScriptedProbe([WRONG_PASSWORD]))
    async with traced.orchestrator() as startup, another:
        await traced.clock.advance(3.0)
        assert (startup.stage, another.stage) == (Stage.READY, Stage.DEGRADED)
    assert [span.name for span in traced.roots] == ["startup"]
    assert attributes(traced.one("startup"))["orchestrator.outcome"] == "ready"
    assert "give each orchestrator one of its own" in caplog.text
    async with traced.orchestrator():  # one after the other is fine
        await traced.clock.advance(3.0)
    assert len(traced.named("startup")) == 2
