"""Why a stage changed: in the event, and in the same words wherever somebody reads it."""

import logging
import re

import anyio
import pytest
from opentelemetry.sdk import _logs as logs_sdk

from orchestrator import Check, ConditionSpec, Orchestrator, Policy, Target, Task
from orchestrator._core.explanation import cause_in_words
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.testing import ManualClock, ScriptedProbe, StageLog
from orchestrator.web import web_app
from states import (
    BootFinished,
    ConditionChanged,
    Fact,
    Failure,
    FailureKind,
    Missing,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
    StartupMachine,
    TimerFired,
)
from tests.otel.otel_support import Traced

CONDITIONS = {"listener": True, "schema": True, "cache": False}
REFUSED = ProbeFailed(2.0, 0.1, Failure(FailureKind.TRANSIENT, "X", "it refused"))
ANSWERED = ProbeSucceeded(3.0, 0.1)
LOST = ConditionChanged(4.0, "schema", satisfied=False, reason="no table")
OPTIONAL = ConditionChanged(4.0, "cache", satisfied=False, reason="cold")
HOLDS = ConditionChanged(5.0, "listener", satisfied=True)


def spent_after(*facts: Fact) -> StageChanged:
    machine = StartupMachine(Policy(), CONDITIONS)
    for fact in (BootFinished(1.0), *facts):
        machine.receive(fact)
    changed = machine.receive(TimerFired(31.0))
    assert changed is not None
    assert changed.current is Stage.DEGRADED
    assert changed.waits_for == machine.snapshot.waits_for
    return changed


@pytest.mark.parametrize(
    ("facts", "missing", "words"),
    [
        ([], [(None, "", ""), ("listener", ""), ("schema", "")], "no attempt had ended"),
        ([REFUSED], [(None, "it refused", "X"), ("listener", ""), ("schema", "")], "it refused"),
        (
            [REFUSED, LOST],
            [(None, "it refused", "X"), ("listener", ""), ("schema", "no table")],
            "it refused",
        ),
        (
            [ANSWERED],
            [("listener", ""), ("schema", "")],
            "condition listener does not hold; condition schema does not hold",
        ),
        (
            [REFUSED, ANSWERED, LOST, OPTIONAL, HOLDS],
            [("schema", "no table")],
            "condition schema does not hold (no table)",
        ),
    ],
)
def test_a_spent_budget_says_what_was_missing(
    facts: list[Fact], missing: list[tuple[str, ...]], words: str
) -> None:
    changed = spent_after(*facts)
    assert changed.waits_for == tuple(Missing(*one) for one in missing)
    assert cause_in_words(changed, "Redis") == f"the budget is spent: {words}"


def test_an_event_that_somebody_made_without_it_says_what_it_can() -> None:
    changed = StageChanged(2, Stage.GRACE, Stage.DEGRADED, TimerFired(31.0), 31.0, 30.0)
    assert cause_in_words(changed, "Redis") == "the budget is spent"


class Postgres(ScriptedProbe):
    @property
    def target(self) -> Target:
        return Target(system="postgresql", address="db")


@pytest.mark.anyio
@pytest.mark.skipif(
    not hasattr(logs_sdk, "ReadableLogRecord"),
    reason="this OpenTelemetry has no log events that can be read",
)
async def test_log_trace_page_and_test_output_say_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    from opentelemetry.sdk._logs.export import (  # older ones lack it
        InMemoryLogRecordExporter,
        SimpleLogRecordProcessor,
    )

    traced, exporter = Traced(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call] # the SDK's
    provider = logs_sdk.LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    observer = OpenTelemetryObserver(traced.tracers, traced.meters, provider, events="both")
    stages, clock = StageLog(), ManualClock()
    startup = Orchestrator(
        Postgres(),
        policy=Policy(budget_seconds=5.0),
        conditions=["listener"],
        observers=[observer, stages],
        clock=clock,
    )
    page = web_app(startup)
    async with startup:
        startup.condition("listener").set(False, reason="no channel")
        await clock.advance(6.0)
        reader = page._serve_events.__self__._reader  # type: ignore[attr-defined]  # the page's own
        shown = [reader.stage(changed)["cause"] for changed in stages.events]
        waits_for = startup.explain().waits_for
    why = "the budget is spent: condition listener does not hold (no channel)"
    assert shown == ["the process is set up", "PostgreSQL answered in 0.0 ms", why]
    assert [m.split(": ", 1)[1] for m in caplog.messages if " -> " in m] == shown
    assert [data.log_record.body for data in exporter.get_finished_logs()] == shown
    assert dict(traced.one("startup").attributes or {})["orchestrator.reason"] == why
    assert waits_for == ("condition listener (no channel)",)
    with pytest.raises(AssertionError) as caught:
        stages.assert_never(Stage.DEGRADED)
    assert all(words in str(caught.value) for words in shown)


@pytest.mark.anyio
async def test_all_conditions_are_explained_in_their_order_with_the_age_of_a_failure() -> None:
    clock = ManualClock()
    startup = Orchestrator(
        ScriptedProbe("refused, ok", clock=clock),
        conditions=[
            Task("listener", anyio.sleep_forever, after=["redis", "database"]),
            ConditionSpec("billing", required=False),
            Check("database", ScriptedProbe("wrong-password"), after=["redis"]),
            "cache",
        ],
        clock=clock,
    )
    async with startup:
        startup.condition("cache").set(True)
        await clock.advance(10)
        lines = str(startup.explain()).splitlines()
    failed = next(line for line in lines if line.startswith("Redis failed"))
    assert re.fullmatch(r"Redis failed \(last time, (9\.\d|10\.0) s ago\): .*", failed)
    words = [re.sub(r"[\d.]+ s", "N s", line) for line in lines[-5:]]
    assert words == [
        "Redis answers",
        "  condition database does not hold, for N s now: the password is wrong",
        "    condition listener does not hold, for N s now: after database",
        "condition billing does not hold, for N s now (not required)",
        "condition cache holds, for N s now",
    ]
