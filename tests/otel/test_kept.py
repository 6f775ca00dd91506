"""Checks and tasks in traces and metrics: what each asked, in which order, what became of it."""

import asyncio
from dataclasses import replace
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.trace import SpanKind, StatusCode

from orchestrator import (
    Check,
    KeptFact,
    KeptStep,
    Observer,
    Orchestrator,
    Policy,
    Probe,
    ProbeFailed,
    ProbeResult,
    Stage,
    StartupContext,
    Target,
    Task,
)
from orchestrator.checks import call, file, http, tcp
from orchestrator.otel._episode import CHECK_ATTEMPTS
from orchestrator.otel._targets import attempt_name, target_attributes
from orchestrator.redis import RedisProbe
from orchestrator.testing import REFUSED, ScriptedProbe
from states import Failure
from tests.otel.otel_support import TimedProbe, Traced, attributes, seconds, span_id, times

pytestmark = pytest.mark.anyio


class Database(TimedProbe):
    """Takes 0.2 s for each answer."""

    def __init__(self, traced: Traced, *script: Failure | None) -> None:
        super().__init__(traced.clock, 0.2, 0.0, *script)

    @property
    def target(self) -> Target:
        return Target("postgresql", "db.internal", 5432, "chat", operation="SELECT")


def startup_of(traced: Traced, *conditions: Any, redis: Probe | None = None) -> Orchestrator:
    return traced.orchestrator(redis, conditions=conditions)


def parent_of(traced: Traced, name: str) -> int:
    (span,) = traced.named(name)
    assert span.parent is not None
    return span.parent.span_id


async def test_an_attempt_of_a_check_is_a_client_span_in_the_span_of_its_condition(
    traced: Traced,
) -> None:
    check = Check("database", Database(traced, REFUSED, None))
    async with startup_of(traced, check):
        await traced.clock.advance(3.0)
    condition = traced.one("condition database")
    failed, good = traced.named("SELECT")
    for number, span in enumerate((failed, good), 1):
        assert span.kind is SpanKind.CLIENT
        assert span.parent is not None
        assert span.parent.span_id == span_id(condition)
        assert seconds(span) == pytest.approx(0.2)
        assert (
            attributes(span).items()
            >= {
                "orchestrator.condition.name": "database",
                "orchestrator.attempt": number,
                "db.system.name": "postgresql",
                "db.namespace": "chat",
                "db.operation.name": "SELECT",
                "server.address": "db.internal",
                "server.port": 5432,
            }.items()
        )
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes(failed)["error.type"] == "ConnectionRefusedError"
    assert times(good)[1] == times(condition)[1]
    assert attributes(traced.one("startup"))["orchestrator.check.attempts"] == 2


async def test_the_order_is_seen_as_the_order_of_the_spans(traced: Traced) -> None:
    async def listen() -> None:
        await anyio.sleep_forever()

    conditions = [
        Task("listener", listen, after=["search", "redis"]),
        Check("search", Database(traced, None), after=["database"]),
        Check("database", Database(traced, None), after=["vpn"]),
        "vpn",
        Check("beside", Database(traced, None)),
    ]
    async with startup_of(traced, *conditions) as startup:
        await traced.clock.advance(1.0)
        startup.condition("vpn").set(True)
        await traced.clock.advance(5.0)
    spans = [span for span in traced.spans if span.name.startswith("condition ")]
    names = [span.name.partition(" ")[2] for span in spans]
    assert names == ["vpn", "beside", "database", "search", "listener"]
    vpn, beside, database, search, listener = spans
    assert times(beside)[0] == times(vpn)[0]
    for before, behind in ((vpn, database), (database, search), (search, listener)):
        assert abs(times(behind)[0] - times(before)[1]) <= 1
    assert attributes(listener)["orchestrator.condition.after"] == ("search", "redis")
    assert "orchestrator.condition.after" not in attributes(beside)


async def test_one_whose_turn_never_comes_says_what_it_waited_for(traced: Traced) -> None:
    check = Check("database", Database(traced, None), after=["vpn"])
    async with startup_of(traced, "vpn", check):
        await traced.clock.advance(1.0)
    span = traced.one("condition database")
    assert attributes(span)["orchestrator.reason"] == "after vpn"
    assert not traced.named("SELECT")


async def test_the_trace_of_a_fall_has_the_attempts_that_led_to_it(traced: Traced) -> None:
    database = ScriptedProbe()
    check = Check("database", database, failures_to_degrade=3)
    async with startup_of(traced, check) as startup:
        await traced.clock.advance(3.0)
        database.then("refused")
        await traced.clock.advance(20.0)
        assert startup.stage is Stage.DEGRADED
        database.then("ok")
        await traced.clock.advance(20.0)
    degrade = traced.one("degrade")
    inside = [s for s in traced.trace_of(degrade) if s.name == "PING"]
    assert len(inside) == 3
    assert times(degrade)[0] <= min(times(span)[0] for span in inside)
    assert {attributes(span)["orchestrator.condition.name"] for span in inside} == {"database"}
    recovery = traced.trace_of(traced.one("recovery"))
    wait = next(span for span in recovery if span.name == "condition database")
    parents = [s.parent.span_id for s in recovery if s.name == "PING" and s.parent is not None]
    assert span_id(wait) in parents


async def test_of_many_attempts_the_first_ten_and_the_last_have_spans(traced: Traced) -> None:
    check = Check("database", Database(traced, *[REFUSED] * 30, None))
    async with startup_of(traced, check):
        await traced.clock.advance(55.0)
    numbers = [attributes(span)["orchestrator.attempt"] for span in traced.named("SELECT")]
    root = attributes(traced.one("startup"))
    assert numbers == [*range(1, 11), root["orchestrator.check.attempts"]]
    assert root["orchestrator.check.attempts_omitted"] == 31 - 11


def test_a_hundred_checks_that_fail_for_long_stay_bounded(traced: Traced) -> None:
    """Facts alone, as a hundred checks give them in 20 s."""
    names = [f"check {n}" for n in range(100)]
    target = Target("postgresql", operation="SELECT")
    context = StartupContext(Policy(), Target(), dict.fromkeys(names, True), 0.0, 1.0, 10**18)
    observer = traced.observer
    observer.started(replace(context, targets=dict.fromkeys(names, target)))
    for second in range(20):
        for name in names:
            failed = ProbeFailed(2.0 + second, 0.2, REFUSED)
            observer.kept(KeptFact(failed.at, name, KeptStep.ATTEMPTED, failed))
    observer.stopped(23.0)
    spans = traced.spans
    asked = [span for span in spans if span.name == "SELECT"]
    assert len(asked) == CHECK_ATTEMPTS
    assert len({attributes(span)["orchestrator.condition.name"] for span in asked}) == 100
    assert len(spans) < 512, "more would not fit into one batch"
    assert len([span for span in spans if span.name.startswith("condition ")]) == 100
    root = attributes(traced.one("startup"))
    assert root["orchestrator.check.attempts"] == 2000
    assert root["orchestrator.check.attempts_omitted"] == 2000 - CHECK_ATTEMPTS


async def test_what_becomes_of_a_task_is_told_as_events(traced: Traced) -> None:
    async def fail() -> None:
        raise ValueError("hunter2")

    async with startup_of(traced, Task("listener", fail, most_restarts=2)):
        await traced.clock.advance(5.0)
    told = [
        (event.name, dict(event.attributes or {}).get("orchestrator.reason"))
        for event in traced.one("startup").events
        if event.name.startswith("orchestrator.task.")
    ]
    why = "its task ended with ValueError"
    assert told[:-1] == [
        ("orchestrator.task.started", None),
        ("orchestrator.task.restarted", why),
        ("orchestrator.task.restarted", why),
    ]
    name, reason = told[-1]
    assert name == "orchestrator.task.down"
    assert why in str(reason)
    restarts = {"orchestrator.condition.name=listener": 2}
    assert traced.numbers("orchestrator.task.restarts") == restarts


async def test_conditions_and_checks_are_measured_by_name(traced: Traced) -> None:
    checks = [
        Check("database", Database(traced, REFUSED, None)),
        Check("search", Database(traced, REFUSED), required=False),
    ]
    database = "orchestrator.condition.name=database orchestrator.condition.required=True"
    search = "orchestrator.condition.name=search orchestrator.condition.required=False"
    startup = startup_of(traced, *checks)
    for _ in range(2):  # entered again, it does not count twice
        async with startup:
            assert traced.numbers("orchestrator.condition") == {database: 0, search: 0}
            await traced.clock.advance(3.0)
            assert startup.stage is Stage.READY
            assert traced.numbers("orchestrator.condition") == {database: 1, search: 0}
        assert traced.numbers("orchestrator.condition") == {database: 0, search: 0}
    points = traced.points("orchestrator.check.duration")
    refused = points["error.type=ConnectionRefusedError orchestrator.condition.name=database"]
    assert isinstance(refused, HistogramDataPoint)
    assert refused.count == 1
    assert refused.sum == pytest.approx(0.2)
    assert "orchestrator.condition.name=database" in points


@pytest.mark.parametrize(
    ("probe", "name", "said"),
    [
        (tcp("db", 1), "connect", {"network.transport": "tcp", "server.address": "db"}),
        (http("http://api/health?key=k"), "GET", {"http.request.method": "GET"}),
        (file("/run/ready"), "stat", {"file.path": "/run/ready"}),
        (call(print, name="disk"), "call disk", {"code.function.name": "disk"}),
        (RedisProbe("redis://:p@r/2"), "PING", {"db.operation.name": "PING"}),
    ],
)
def test_an_attempt_is_named_for_what_is_really_asked(
    probe: Probe, name: str, said: dict[str, str]
) -> None:
    assert attempt_name(probe.target) == name
    found = target_attributes(probe.target, operation=True)
    assert found.items() >= said.items()
    assert not {"p", "k", "u"} & set(map(str, found.values()))
    assert ("db.system.name" in found) == (name == "PING")


async def test_the_probe_of_the_orchestrator_itself_is_named_for_what_it_asks(
    traced: Traced,
) -> None:
    async with traced.orchestrator(Database(traced, None)):
        await traced.clock.advance(3.0)
    assert traced.named("SELECT")
    assert not traced.named("PING")


class Hostile(Observer):
    """Does to the orchestrator all that plain code can do."""

    def __init__(self) -> None:
        self.steps: list[KeptStep] = []

    def kept(self, fact: KeptFact) -> None:
        self.steps.append(fact.step)
        try:
            task = asyncio.current_task()
        except RuntimeError:  # trio
            task = None
        if task is not None:
            task.cancel()
        raise [ValueError, BaseException][len(self.steps) % 2]


async def test_no_observer_breaks_a_check_or_a_task(traced: Traced) -> None:
    async def listen() -> None:
        await anyio.sleep_forever()

    hostile, probe = Hostile(), ScriptedProbe("refused x2, ok")
    startup = Orchestrator(
        ScriptedProbe(),
        conditions=[Check("database", probe), Task("listener", listen, after=["database"])],
        observers=[hostile, traced.observer],
        clock=traced.clock,
        policy=Policy(grace_seconds=0.5),
    )
    async with startup:
        await traced.clock.advance(10.0)
        assert str(startup.stage) == "ready"
        probe.then("refused")
        await traced.clock.advance(20.0)
        assert str(startup.stage) == "degraded"
    assert set(hostile.steps) == {KeptStep.BEGAN, KeptStep.ATTEMPTED, KeptStep.STARTED}
    asked = [
        span for span in traced.named("PING") if "orchestrator.condition.name" in attributes(span)
    ]
    assert hostile.steps.count(KeptStep.ATTEMPTED) > len(asked) > 10


class Counting(Probe):
    attempts = 0

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        await anyio.lowlevel.checkpoint()
        self.attempts += 1
        return ProbeResult(0.0)


async def test_where_nobody_listens_nothing_is_kept(traced: Traced) -> None:
    checks = [Check("database", Counting(), interval_seconds=1.0)]
    startup = Orchestrator(
        ScriptedProbe(), conditions=checks, clock=traced.clock, observers=[Observer()]
    )
    async with startup:
        await traced.clock.advance(10.0)
        life = startup._life
        assert life is not None
        assert not life.driver._inbox
