"""The traces: their shape, their times, and that they come whatever the providers do."""

import itertools
import time

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from orchestrator import Orchestrator, Policy, StartupContext, Target
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ScriptedProbe
from states import (
    BootFinished,
    Failure,
    FailureKind,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StartupMachine,
)
from tests.otel.otel_support import (
    BORN_AT,
    ENTERED_AT,
    TimedProbe,
    Traced,
    attributes,
    linked,
    seconds,
    span_id,
    times,
    trace_id,
)

pytestmark = pytest.mark.anyio

TRANSITION = "orchestrator.stage.transition"


def assert_inside(child: ReadableSpan, parent: ReadableSpan) -> None:
    (began, ended), (first, last) = times(child), times(parent)
    assert first <= began <= ended <= last, child.name


async def test_a_start_is_one_trace_from_the_process_s_start_to_ready(traced: Traced) -> None:
    before = time.time_ns()
    async with traced.orchestrator(ScriptedProbe([REFUSED, None])):
        await traced.clock.advance(3.0)
    root = traced.one("startup")
    stages = [span for span in traced.spans if span.name.startswith("startup ")]
    assert [span.name for span in stages] == [
        "startup booting",
        "startup probing_redis",
        "startup grace",
    ]
    assert root.parent is None
    assert {trace_id(span) for span in traced.spans} == {trace_id(root)}
    assert traced.observer.trace_id == f"{trace_id(root):032x}"
    for stage in stages:
        assert stage.parent is not None
        assert stage.parent.span_id == span_id(root)
        assert_inside(stage, root)
    for earlier, later in itertools.pairwise(stages):
        assert times(earlier)[1] == times(later)[0]
    assert times(stages[0])[0] == times(root)[0]
    assert times(stages[-1])[1] == times(root)[1]
    born_ago = (before - times(root)[0]) / 1e9
    assert born_ago == pytest.approx(ENTERED_AT - BORN_AT, abs=1.0)
    assert seconds(stages[0]) == pytest.approx(ENTERED_AT - BORN_AT)


async def test_everything_to_search_by_is_on_the_root(traced: Traced) -> None:
    probe = TimedProbe(traced.clock, 0.01, 0.0, REFUSED, None)
    async with traced.orchestrator(probe):
        await traced.clock.advance(3.0)
    root = traced.one("startup")
    told = attributes(root)
    assert told.pop("orchestrator.account.steps") == ("imports", "redis", "grace")
    assert told.pop("orchestrator.account.last_to_hold") == "redis"
    seconds = told.pop("orchestrator.account.seconds")
    assert isinstance(seconds, tuple)
    assert sum(seconds) == pytest.approx(((root.end_time or 0) - (root.start_time or 0)) / 1e9)
    assert told == {
        "orchestrator.platform": "cloud_run",
        "orchestrator.budget_seconds": 60.0,
        "orchestrator.grace_seconds": 0.5,
        "orchestrator.outcome": "ready",
        "orchestrator.attempts": len(traced.named("PING")),
        "orchestrator.attempts_omitted": 0,
        "orchestrator.transitions": 3,
        "orchestrator.transitions_omitted": 0,
        "server.address": "redis.internal",
        "server.port": 6380,
    }
    assert traced.one("startup").status.status_code is StatusCode.UNSET


async def test_every_transition_is_an_event_with_its_time_and_cause(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([REFUSED, None])):
        await traced.clock.advance(3.0)
    root = traced.one("startup")
    events = [event for event in root.events if event.name == TRANSITION]
    assert len(events) == len(root.events) == 3
    told = [dict(event.attributes or {}) for event in events]
    assert [(a["orchestrator.stage.from"], a["orchestrator.stage.to"]) for a in told] == [
        ("booting", "probing_redis"),
        ("probing_redis", "grace"),
        ("grace", "ready"),
    ]
    assert [a["orchestrator.transition.trigger"] for a in told[:2]] == [
        "BootFinished",
        "ProbeSucceeded",
    ]
    assert [a["orchestrator.transition.sequence"] for a in told] == [1, 2, 3]
    for event, stage in zip(events, ("booting", "probing_redis", "grace"), strict=True):
        span = traced.one(f"startup {stage}")
        assert event.timestamp == times(span)[1]
        lasted = dict(event.attributes or {})["orchestrator.stage.duration_seconds"]
        assert lasted == pytest.approx(seconds(span))
    assert not any("error.type" in a for a in told)


async def test_an_attempt_is_a_client_span_that_ends_before_the_loop_s_lag(traced: Traced) -> None:
    probe = TimedProbe(traced.clock, 0.02, 0.03, REFUSED, None)
    async with traced.orchestrator(probe):
        await traced.clock.advance(3.0)
    failed, succeeded = traced.named("PING")[:2]
    assert failed.kind is succeeded.kind is SpanKind.CLIENT
    assert attributes(failed) == {
        "db.system.name": "redis",
        "db.operation.name": "PING",
        "db.namespace": "2",
        "server.address": "redis.internal",
        "server.port": 6380,
        "error.type": "ConnectionRefusedError",
        "orchestrator.attempt": 1,
        "orchestrator.probe.loop_lag_seconds": 0.03,
        "orchestrator.failure.kind": "transient",
    }
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.status.description == REFUSED.reason
    assert succeeded.status.status_code is StatusCode.UNSET
    stage = traced.one("startup probing_redis")
    for span in (failed, succeeded):
        assert span.parent is not None
        assert span.parent.span_id == span_id(stage)
        assert_inside(span, stage)
        assert seconds(span) == pytest.approx(0.02, abs=1e-6)
    # The result of the successful one waited 30 ms for the loop before the stage changed.
    assert (times(stage)[1] - times(succeeded)[1]) / 1e9 == pytest.approx(0.03, abs=1e-6)


async def test_the_first_ten_attempts_and_the_last_have_spans(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([REFUSED] * 24 + [None])):
        await traced.clock.advance(30.0)
    root = traced.one("startup")
    pings = [span for span in traced.trace_of(root) if span.name == "PING"]
    total = attributes(root)["orchestrator.attempts"]
    assert isinstance(total, int)
    assert total > 24
    assert [attributes(span)["orchestrator.attempt"] for span in pings] == [*range(1, 11), total]
    assert attributes(root)["orchestrator.attempts_omitted"] == total - 11
    assert pings[-1].parent is not None
    assert pings[-1].parent.span_id == span_id(traced.one("startup grace"))


async def test_a_stage_that_is_entered_again_has_a_span_each_time(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([None, REFUSED, None])):
        await traced.clock.advance(5.0)
    assert len(traced.named("startup probing_redis")) == 2
    assert len(traced.named("startup grace")) == 2
    told = [dict(event.attributes or {}) for event in traced.one("startup").events]
    assert told[2]["error.type"] == "ConnectionRefusedError"
    assert told[2]["orchestrator.reason"] == REFUSED.reason


async def test_a_wrong_password_fails_the_start_and_says_where_and_why(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([WRONG_PASSWORD]), conditions=["chat-listener"]):
        await traced.clock.advance(1.0)
        root = traced.one("startup")  # written at once, not only when the service stops
    assert root.status.status_code is StatusCode.ERROR
    assert root.status.description == WRONG_PASSWORD.reason
    told = attributes(root)
    assert told["orchestrator.outcome"] == "degraded"
    assert told["orchestrator.stage.failed"] == "probing_redis"
    assert told["error.type"] == "AuthenticationError"
    assert told["orchestrator.reason"] == WRONG_PASSWORD.reason
    assert told["orchestrator.conditions.unmet"] == ("chat-listener",)
    assert traced.one("startup probing_redis").status.status_code is StatusCode.ERROR
    assert traced.one("startup booting").status.status_code is StatusCode.UNSET


async def test_a_condition_that_never_comes_fails_the_start_by_name(traced: Traced) -> None:
    async with traced.orchestrator(conditions=["chat-listener", "cache"]) as startup:
        startup.condition("cache").set(False, reason="still loading")
        await traced.clock.advance(61.0)
    told = attributes(traced.one("startup"))
    assert told["orchestrator.stage.failed"] == "grace"
    assert told["error.type"] == "condition_not_met"
    assert told["orchestrator.reason"] == (
        "the budget is spent: condition cache does not hold (still loading);"
        " condition chat-listener does not hold"
    )


async def test_a_budget_spent_on_a_silent_redis_names_the_last_failure(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([REFUSED])):
        await traced.clock.advance(61.0)
    told = attributes(traced.one("startup"))
    assert told["orchestrator.stage.failed"] == "probing_redis"
    assert told["error.type"] == "ConnectionRefusedError"
    assert told["orchestrator.reason"] == "the budget is spent: nothing listens there"


async def test_a_start_that_is_cut_short_is_told_as_stopped(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([REFUSED])):
        await traced.clock.advance(1.0)
        assert not traced.spans
    root = traced.one("startup")
    assert attributes(root)["orchestrator.outcome"] == "stopped"
    assert root.status.status_code is StatusCode.UNSET
    for span in traced.spans:
        assert_inside(span, root)


async def test_a_fall_and_the_way_back_are_linked_traces_of_their_own(traced: Traced) -> None:
    probe = ScriptedProbe()
    async with traced.orchestrator(probe):
        await traced.clock.advance(3.0)
        probe.then(REFUSED)
        await traced.clock.advance(3.0)
        probe.then(None)
        await traced.clock.advance(3.0)
        probe.then(REFUSED)
        await traced.clock.advance(3.0)
    startup, degrade, recovery, again, cut = traced.roots
    names = ["startup", "degrade", "recovery", "degrade", "recovery"]
    assert [span.name for span in traced.roots] == names
    assert len({trace_id(span) for span in traced.roots}) == 5
    assert linked(startup) == {}
    assert linked(degrade) == {"startup": span_id(startup)}
    assert linked(recovery) == {"startup": span_id(startup), "previous": span_id(degrade)}
    assert linked(again) == {"startup": span_id(startup), "previous": span_id(recovery)}
    assert traced.observer.trace_id == f"{trace_id(startup):032x}"

    failed = [span for span in traced.trace_of(degrade) if span.name == "PING"]
    assert len(failed) == 3
    assert times(failed[0])[0] == times(degrade)[0]
    assert times(failed[-1])[1] == times(degrade)[1] == times(recovery)[0]
    assert degrade.status.status_code is StatusCode.ERROR
    assert attributes(degrade)["orchestrator.stage.failed"] == "ready"
    assert len(degrade.events) == 1

    assert attributes(recovery)["orchestrator.outcome"] == "ready"
    assert recovery.status.status_code is StatusCode.UNSET
    inner = {span.name for span in traced.trace_of(recovery)}
    assert inner == {"recovery", "recovery degraded", "recovery grace", "PING"}
    assert attributes(cut)["orchestrator.outcome"] == "stopped"
    for root in traced.roots:
        for span in traced.trace_of(root):
            assert_inside(span, root)


async def test_the_way_from_a_failed_start_is_a_recovery(traced: Traced) -> None:
    probe = ScriptedProbe([WRONG_PASSWORD])
    async with traced.orchestrator(probe):
        await traced.clock.advance(1.0)
        probe.then(None)
        await traced.clock.advance(3.0)
    startup, recovery = traced.roots
    assert recovery.name == "recovery"
    assert linked(recovery) == {"startup": span_id(startup)}


async def test_a_lost_condition_is_a_fall_with_its_reason(traced: Traced) -> None:
    async with traced.orchestrator(conditions=["chat-listener"]) as startup:
        startup.condition("chat-listener").set(True)
        await traced.clock.advance(3.0)
        startup.condition("chat-listener").set(False, reason="the listener died")
        await traced.clock.advance(1.0)
    told = attributes(traced.one("degrade"))
    assert told["error.type"] == "condition_not_met"
    assert told["orchestrator.reason"] == "condition chat-listener is lost: the listener died"
    assert told["orchestrator.conditions.unmet"] == ("chat-listener",)


async def test_a_hiccup_while_ready_makes_no_span(traced: Traced) -> None:
    probe = ScriptedProbe()
    async with traced.orchestrator(probe) as startup:
        await traced.clock.advance(3.0)
        before = len(traced.spans)
        probe.then(REFUSED, None)
        await traced.clock.advance(60.0)
        assert startup.stage is Stage.READY
        assert len(traced.spans) == before
        probe.then(REFUSED)
        await traced.clock.advance(3.0)
    # The fall begins with its own first failure, not with the hiccup a minute before.
    assert attributes(traced.one("degrade"))["orchestrator.attempts"] == 3
    assert seconds(traced.one("degrade")) < 1.0


async def test_flapping_for_long_stays_bounded(traced: Traced) -> None:
    script = [WRONG_PASSWORD] + [None, REFUSED] * 200 + [REFUSED]
    async with traced.orchestrator(ScriptedProbe(script)) as startup:
        await traced.clock.advance(300.0)
        assert startup.stage is Stage.DEGRADED
    recovery = traced.one("recovery")
    told = attributes(recovery)
    assert told["orchestrator.transitions"] == 400
    assert told["orchestrator.transitions_omitted"] == 350
    assert len(recovery.events) == 50
    assert len(traced.trace_of(recovery)) == 1 + 50 + 11


async def test_no_span_is_ever_current(traced: Traced) -> None:
    tracer = traced.tracers.get_tracer("application")

    async def work() -> None:
        tracer.start_span("work").end()

    async with traced.orchestrator() as startup, anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        startup.on(Stage.READY)(lambda _: tracer.start_span("called back").end())
        await traced.clock.advance(3.0)
        assert not trace.get_current_span().get_span_context().is_valid
        tasks.start_soon(work)
    assert [span.parent for span in traced.named("work")] == [None, None]
    assert traced.one("called back").parent is None


async def test_a_current_span_of_the_application_is_no_parent(traced: Traced) -> None:
    with traced.tracers.get_tracer("application").start_as_current_span("serve"):
        async with traced.orchestrator():
            await traced.clock.advance(3.0)
    assert traced.one("startup").parent is None


async def test_traceparent_is_the_parent_of_the_start_only(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace_hex, span_hex = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    monkeypatch.setenv("TRACEPARENT", f"00-{trace_hex}-{span_hex}-01")
    probe = ScriptedProbe()
    async with traced.orchestrator(probe):
        await traced.clock.advance(3.0)
        probe.then(REFUSED)
        await traced.clock.advance(3.0)
    parent = traced.one("startup").parent
    assert parent is not None
    assert (f"{parent.trace_id:032x}", f"{parent.span_id:016x}") == (trace_hex, span_hex)
    assert traced.observer.trace_id == trace_hex
    assert traced.one("degrade").parent is None


async def test_a_malformed_traceparent_is_ignored(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", "from the deployment")
    async with traced.orchestrator():
        await traced.clock.advance(3.0)
    assert traced.one("startup").parent is None


async def test_a_provider_that_is_set_after_all_loses_nothing(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer = OpenTelemetryObserver()
    probe, clock = ScriptedProbe([WRONG_PASSWORD]), traced.clock
    async with Orchestrator(probe, clock=clock, observers=[observer]):
        await clock.advance(1.0)
        probe.then(None)
        await clock.advance(3.0)
        unwritten = observer.trace_id
        # As if set now: the API's global may be set once in a process only.
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: traced.tracers)
        await clock.advance(10.0)  # the next attempt
        assert observer.wait_until_written(5.0)
        assert [span.name for span in traced.roots] == ["startup", "recovery"]
        assert unwritten is None
        assert observer.trace_id == f"{trace_id(traced.one('startup')):032x}"
    assert linked(traced.one("recovery")) == {"startup": span_id(traced.one("startup"))}


async def test_without_a_provider_nothing_grows(traced: Traced) -> None:
    observer = OpenTelemetryObserver()
    probe = ScriptedProbe()
    async with Orchestrator(probe, clock=traced.clock, observers=[observer]):
        for _ in range(12):
            probe.then(REFUSED)
            await traced.clock.advance(3.0)
            probe.then(None)
            await traced.clock.advance(40.0)
        assert observer.wait_until_written(5.0)
        assert observer._writer is not None
        assert len(observer._noted) < 512
        assert len(list(observer._writer._untraced.taken())) == 9
        assert len(observer._writer._metrics._early) == 256


def test_an_attempt_that_was_under_way_when_the_stage_changed_hangs_on_the_root() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    machine, observer = StartupMachine(Policy()), OpenTelemetryObserver(provider)
    context = StartupContext(Policy(grace_seconds=0.5), Target(), {}, 0.0, 1.0, 10**18)
    machine = StartupMachine(context.policy)
    observer.started(context)
    slow = ProbeSucceeded(3.0, latency_seconds=1.5)
    for fact in (BootFinished(1.0), ProbeSucceeded(2.0, 0.1), slow):
        observer.observed(fact, machine.receive(fact))
    observer.stopped(3.0)
    assert observer.wait_until_written(5.0)
    first, second = (span for span in exporter.get_finished_spans() if span.name == "PING")
    (root,) = (span for span in exporter.get_finished_spans() if span.name == "startup")
    assert first.parent is not None
    assert first.parent.span_id != span_id(root)
    assert second.parent is not None
    assert second.parent.span_id == span_id(root)
    provider.shutdown()


@pytest.mark.parametrize("latency", [float("nan"), float("inf"), -1.0, 1e300])
def test_nonsense_from_a_probe_does_not_end_the_telemetry(latency: float) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    observer, policy = OpenTelemetryObserver(provider), Policy()
    observer.started(StartupContext(policy, Target(), {}, 0.0, 1.0, 10**18))
    machine = StartupMachine(policy)
    failure = Failure(FailureKind.PERMANENT, "Broken", "x" * 10_000)
    for fact in (BootFinished(1.0), ProbeFailed(2.0, latency, failure)):
        observer.observed(fact, machine.receive(fact))
    assert observer.wait_until_written(5.0)
    (root,) = (span for span in exporter.get_finished_spans() if span.name == "startup")
    assert all(times(root)[0] <= times(s)[0] for s in exporter.get_finished_spans())
    assert len(str(root.status.description)) == 500
    provider.shutdown()
