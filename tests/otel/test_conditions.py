"""Conditions as spans: from declared to true, and the reason where that does not happen."""

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from orchestrator import Orchestrator
from orchestrator._core.conditions import ConditionSpec
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ScriptedProbe
from states import Stage
from tests.otel.otel_support import Traced, attributes, seconds, span_id, times

pytestmark = pytest.mark.anyio


async def test_a_condition_is_a_span_from_its_declaration_until_it_holds(traced: Traced) -> None:
    async with traced.orchestrator(conditions=["chat-listener"]) as startup:
        await traced.clock.advance(2.0)
        startup.condition("chat-listener").set(True)
        await traced.clock.advance(1.0)
    root, span = traced.one("startup"), traced.one("condition chat-listener")
    assert span.parent is not None
    assert span.parent.span_id == span_id(root)
    assert times(span)[0] == times(traced.one("startup booting"))[1]  # entered, so declared
    assert seconds(span) == pytest.approx(2.0)
    assert times(span)[1] == times(root)[1]  # it was what ready waited for
    assert attributes(span) == {
        "orchestrator.condition.name": "chat-listener",
        "orchestrator.condition.required": True,
        "orchestrator.condition.satisfied": True,
    }
    assert span.status.status_code is StatusCode.UNSET
    last = dict(root.events[-1].attributes or {})
    assert last["orchestrator.transition.trigger"] == "ConditionChanged"
    assert last["orchestrator.condition.name"] == "chat-listener"


async def test_one_that_never_comes_says_what_it_last_said(traced: Traced) -> None:
    async with traced.orchestrator(conditions=["cache"]) as startup:
        startup.condition("cache").set(False, reason="loading 10 %")
        await traced.clock.advance(1.0)
        startup.condition("cache").set(False, reason="loading 20 %")
        await traced.clock.advance(60.0)
    span, again = traced.named("condition cache")
    assert attributes(span) == {
        "orchestrator.condition.name": "cache",
        "orchestrator.condition.required": True,
        "orchestrator.condition.satisfied": False,
        "orchestrator.reason": "loading 20 %",
        "error.type": "condition_not_met",
    }
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "loading 20 %"
    assert times(span)[1] == times(traced.one("startup"))[1]
    # The recovery goes on to wait for it.
    assert again.parent is not None
    assert again.parent.span_id == span_id(traced.one("recovery"))
    event = dict(traced.one("startup").events[-1].attributes or {})
    assert event["orchestrator.transition.trigger"] == "TimerFired"
    assert event["error.type"] == "condition_not_met"
    assert event["orchestrator.reason"] == (
        "the budget is spent: condition cache does not hold (loading 20 %)"
    )


async def test_one_that_could_not_come_is_no_failure_of_its_own(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([WRONG_PASSWORD]), conditions=["chat"]):
        await traced.clock.advance(1.0)
    span = traced.named("condition chat")[0]
    assert attributes(span)["orchestrator.condition.satisfied"] is False
    assert span.status.status_code is StatusCode.UNSET


async def test_one_that_falls_during_the_start_has_a_span_each_time(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([REFUSED]), conditions=["chat"]) as startup:
        with startup.condition("chat"):
            await traced.clock.advance(1.0)
        await traced.clock.advance(2.0)
        startup.condition("chat").set(True)
        await traced.clock.advance(1.0)
    first, second = traced.named("condition chat")
    assert seconds(first) == pytest.approx(0.0, abs=1e-6)
    assert seconds(second) == pytest.approx(2.0)
    assert second.status.description == "its task ended"


async def test_a_fall_from_ready_is_waited_for_in_the_recovery(traced: Traced) -> None:
    async with traced.orchestrator(conditions=["chat"]) as startup:
        with startup.condition("chat"):
            await traced.clock.advance(3.0)
        await traced.clock.advance(2.0)
        startup.condition("chat").set(True)
        await traced.clock.advance(3.0)
    recovery, span = traced.one("recovery"), traced.named("condition chat")[-1]
    assert span.parent is not None
    assert span.parent.span_id == span_id(recovery)
    assert seconds(span) == pytest.approx(2.0)
    assert span.status.description == "its task ended"
    assert attributes(span)["orchestrator.condition.satisfied"] is True
    told = attributes(recovery)
    assert told["orchestrator.reason"] == "condition chat is lost: its task ended"
    assert told["orchestrator.falls"] == 1
    assert "error.type" not in told


async def test_an_optional_one_is_told_and_blames_nobody(traced: Traced) -> None:
    startup = Orchestrator(
        ScriptedProbe(),
        conditions=[ConditionSpec("metrics", required=False)],
        clock=traced.clock,
        observers=[traced.observer],
    )
    async with startup:
        startup.condition("metrics").set(False, reason="no agent")
        await traced.clock.advance(3.0)
        assert startup.stage is Stage.READY
    span = traced.one("condition metrics")
    assert attributes(span)["orchestrator.condition.required"] is False
    assert attributes(span)["orchestrator.reason"] == "no agent"
    assert span.status.status_code is StatusCode.UNSET


async def test_a_condition_that_flaps_for_long_stays_bounded(traced: Traced) -> None:
    async with traced.orchestrator(ScriptedProbe([REFUSED]), conditions=["chat"]) as startup:
        for _ in range(150):
            startup.condition("chat").set(True)
            await traced.clock.advance(0.01)
            startup.condition("chat").set(False)
            await traced.clock.advance(0.01)
    assert len(traced.named("condition chat")) == 120 + 8
    assert attributes(traced.one("startup"))["orchestrator.condition_waits_omitted"] == 151 - 128


async def test_tasks_of_the_application_never_become_children_of_the_start(
    traced: Traced,
) -> None:
    """Also those that live on, and whatever the orchestrator or a condition starts them from."""
    tracer = traced.tracers.get_tracer("application")
    ended = anyio.Event()

    async def long_lived() -> None:
        with startup.condition("chat"), tracer.start_as_current_span("long-lived"):
            await ended.wait()

    startup = traced.orchestrator(conditions=["chat"])
    async with anyio.create_task_group() as tasks, startup:
        tasks.start_soon(long_lived)

        @startup.on(Stage.READY)
        async def when_ready(_: object) -> None:
            tasks.start_soon(long_lived_too)

        async def long_lived_too() -> None:
            with tracer.start_as_current_span("started when ready"):
                await ended.wait()

        await traced.clock.advance(3.0)
        assert not trace.get_current_span().get_span_context().is_valid
        startup.stop()
        ended.set()
    start = traced.trace_of(traced.one("startup"))
    for name in ("long-lived", "started when ready"):
        (span,) = traced.named(name)
        assert span.parent is None
        assert span not in start
    assert {span.name.partition(" ")[0] for span in start} == {"startup", "condition", "PING"}


async def test_every_span_lasts_and_lies_within_its_parent(traced: Traced) -> None:
    """Jaeger takes a span that lasts no time, or leaves its parent, for an error of the clock."""
    probe = ScriptedProbe()
    startup = Orchestrator(
        probe, conditions=["chat"], clock=traced.clock, observers=[traced.observer]
    )
    async with startup:
        startup.condition("chat").set(True)
        await traced.clock.advance(1.0)
        for cause in ("condition", "probe"):
            if cause == "condition":
                startup.condition("chat").set(False)
            else:
                probe.then(REFUSED)
            await traced.clock.advance(3.0)
            startup.condition("chat").set(True)
            probe.then(None)
            await traced.clock.advance(5.0)
    assert {span.name for span in traced.roots} == {"startup", "degrade", "recovery"}
    by_id = {span_id(span): span for span in traced.spans}
    for span in traced.spans:
        began, ended = times(span)
        assert began < ended, span.name
        if span.parent is not None:
            first, last = times(by_id[span.parent.span_id])
            assert first <= began < ended <= last, span.name
