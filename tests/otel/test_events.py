"""Changes of stage as log events, and the log line that names the trace."""

import logging
import re
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
from opentelemetry import _logs as logs_api
from opentelemetry.sdk import _logs as logs_sdk
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from orchestrator import Orchestrator
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.otel._log_events import Events
from orchestrator.testing import WRONG_PASSWORD, ScriptedProbe
from tests.otel.otel_support import Traced, attributes, span_id, trace_id

if not hasattr(logs_sdk, "ReadableLogRecord"):
    pytest.skip("this OpenTelemetry has no log events that can be read", allow_module_level=True)

from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

pytestmark = pytest.mark.anyio

TRANSITION = "orchestrator.stage.transition"


@pytest.fixture
def exported() -> Iterator[tuple[LoggerProvider, InMemoryLogRecordExporter]]:
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call] # the SDK's
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


async def fail(traced: Traced, observer: OpenTelemetryObserver) -> None:
    async with Orchestrator(
        ScriptedProbe([WRONG_PASSWORD]), clock=traced.clock, observers=[observer]
    ):
        await traced.clock.advance(1.0)


@pytest.mark.parametrize("events", ["span", "log", "both"])
async def test_events_go_where_they_were_asked_for(
    traced: Traced,
    exported: tuple[LoggerProvider, InMemoryLogRecordExporter],
    events: Events,
) -> None:
    provider, exporter = exported
    observer = OpenTelemetryObserver(traced.tracers, traced.meters, provider, events=events)
    await fail(traced, observer)
    root = traced.one("startup")
    records = [data.log_record for data in exporter.get_finished_logs()]
    assert len(root.events) == (0 if events == "log" else 2)
    assert len(records) == (0 if events == "span" else 2)
    for record in records:
        assert record.event_name == TRANSITION
        assert (record.trace_id, record.span_id) == (trace_id(root), span_id(root))
        assert record.trace_flags & 1
    if events == "both":
        told = [(event.timestamp, dict(event.attributes or {})) for event in root.events]
        assert [(r.timestamp, dict(r.attributes or {})) for r in records] == told


async def test_a_fall_is_a_warning_in_words(
    traced: Traced, exported: tuple[LoggerProvider, InMemoryLogRecordExporter]
) -> None:
    provider, exporter = exported
    await fail(traced, OpenTelemetryObserver(traced.tracers, None, provider, events="log"))
    logged: list[ReadableLogRecord] = [*exporter.get_finished_logs()]
    assert [(d.log_record.severity_text, d.log_record.body) for d in logged] == [
        ("INFO", "the process is set up"),
        ("WARN", WRONG_PASSWORD.reason),
    ]
    scope = logged[0].instrumentation_scope
    assert scope is not None
    assert scope.name == "startup-orchestrator"


async def test_events_need_no_tracer_provider(
    traced: Traced, exported: tuple[LoggerProvider, InMemoryLogRecordExporter]
) -> None:
    provider, exporter = exported
    await fail(traced, OpenTelemetryObserver(None, None, provider, events="log"))
    assert len(exporter.get_finished_logs()) == 2


def test_a_word_that_is_none_of_the_three_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match=r"^events is 'logs'; it must be 'span', 'log' or 'both'$"):
        OpenTelemetryObserver(events="logs")  # type: ignore[arg-type] # the point


def test_an_old_api_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Logger:
        def emit(self, record: object) -> None:
            """What the API had before 1.38."""

    old = ModuleType("opentelemetry._logs")
    vars(old)["Logger"] = Logger
    monkeypatch.setitem(sys.modules, "opentelemetry._logs", old)
    OpenTelemetryObserver()
    with pytest.raises(RuntimeError, match=r"^events as logs need opentelemetry-api 1\.38 or"):
        OpenTelemetryObserver(events="both")


def test_the_logs_api_is_loaded_only_where_it_is_asked_for() -> None:
    assert logs_api.__name__ not in vars(sys.modules["orchestrator.otel._log_events"])


async def test_one_line_names_the_trace_and_how_it_ended(
    traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "orchestrator")
    probe = ScriptedProbe([WRONG_PASSWORD])
    async with traced.orchestrator(probe):
        await traced.clock.advance(1.0)
        probe.then(None)
        await traced.clock.advance(3.0)
    lines = [record for record in caplog.records if hasattr(record, "orchestrator_trace_id")]
    said = [
        tuple(
            vars(one)[f"orchestrator_{name}"]
            for name in ("trace_id", "episode", "outcome", "stage")
        )
        for one in lines
    ]
    assert said == [
        (f"{trace_id(root):032x}", root.name, outcome, outcome)
        for root in traced.roots
        for outcome in [attributes(root)["orchestrator.outcome"]]
    ]
    assert re.fullmatch(
        rf"trace {traced.observer.trace_id}: startup, degraded after \d+\.\d{{3}} s",
        lines[0].getMessage(),
    )


async def test_a_trace_that_nobody_keeps_is_not_named(
    traced: Traced, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "orchestrator")
    provider = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    await fail(traced, OpenTelemetryObserver(provider))
    assert not [record for record in caplog.records if hasattr(record, "orchestrator_trace_id")]
