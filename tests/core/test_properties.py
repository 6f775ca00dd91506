"""The whole orchestrator under arbitrary weather: no interleaving breaks a guarantee."""

from collections.abc import Awaitable, Callable
from random import Random

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import (
    ConditionChanged,
    ConditionSpec,
    Fact,
    Observer,
    Orchestrator,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
    Subscription,
)
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ManualClock, ScriptedProbe

pytestmark = pytest.mark.anyio

steps = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.sampled_from([0.0, 0.01, 0.2, 1.0, 7.0])),
        st.tuples(st.just("jump"), st.sampled_from([0.5, 3.0, 40.0])),
        st.tuples(st.just("redis"), st.sampled_from([None, REFUSED, WRONG_PASSWORD])),
        st.tuples(st.just("listener"), st.booleans()),
        st.tuples(st.just("cache"), st.booleans()),
        st.tuples(st.just("join"), st.sampled_from(["quick", "slow", "raises"])),
        st.tuples(st.just("leave"), st.integers(0, 5)),
        st.tuples(st.just("callback"), st.sampled_from(["plain", "raises", "hangs", "calls back"])),
    ),
    max_size=40,
)
policies = st.builds(
    Policy,
    budget_seconds=st.sampled_from([2.0, 30.0]),
    grace_seconds=st.sampled_from([0.0, 0.5]),
    failures_to_degrade=st.integers(1, 3),
)


class Judge(Observer):
    """Keeps an account of its own and checks each event against it."""

    def __init__(self) -> None:
        self.answers = False
        self.listener = False
        self.events: list[StageChanged] = []
        self.last_at = 0.0
        self.wrong: list[str] = []

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        self.expect(fact.at >= self.last_at, "time ran backwards")
        self.last_at = fact.at
        match fact:
            case ProbeSucceeded():
                self.answers = True
            case ProbeFailed():
                self.answers = False
            case ConditionChanged(name="listener", satisfied=satisfied):
                self.listener = satisfied
        if changed is not None:
            before = self.events[-1].current if self.events else Stage.BOOTING
            self.expect(changed.previous is before, "events do not form a chain")
            self.expect(changed.sequence == len(self.events) + 1, "a gap in the sequence")
            if changed.current is Stage.READY:
                self.expect(self.answers, "ready without an answer")
            self.events.append(changed)
        ready = bool(self.events) and self.events[-1].current is Stage.READY
        self.expect(not ready or self.listener, "ready without its required condition")

    def expect(self, holds: bool, what: str) -> None:
        if not holds:  # an exception would only drop this observer
            self.wrong.append(what)


class Crowd:
    """Subscribers that come, go, lag and raise."""

    def __init__(self) -> None:
        self.members: list[tuple[anyio.CancelScope, list[int], str]] = []

    async def member(self, events: Subscription, kind: str) -> None:
        scope, seen = anyio.CancelScope(), list[int]()
        self.members.append((scope, seen, kind))
        try:
            with scope:
                async for event in events:
                    seen.append(event.sequence)
                    if kind == "raises":
                        raise RuntimeError("this subscriber is broken")
                    for _ in range(50 if kind == "slow" else 0):
                        await anyio.lowlevel.checkpoint()
        except RuntimeError:
            pass

    def verdict(self, last: int) -> list[str]:
        wrong = []
        for scope, seen, kind in self.members:
            if seen != list(range(seen[0], seen[0] + len(seen))):
                wrong.append(f"a {kind} subscriber saw {seen}: lost, repeated or out of order")
            if kind != "raises" and not scope.cancel_called and seen[-1] != last:
                wrong.append(f"a {kind} subscriber never saw the final stage")
        return wrong


def callback_of(kind: str, startup: Orchestrator) -> Callable[[StageChanged], Awaitable[None]]:
    async def callback(_event: StageChanged) -> None:
        await anyio.lowlevel.checkpoint()
        if kind == "raises":
            raise RuntimeError("this callback is broken")
        if kind == "hangs":
            await anyio.sleep(0.001)
        if kind == "calls back" and startup.running:
            startup.condition("cache").set(satisfied=True)
            startup.explain()

    return callback


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(policy=policies, story=steps, seed=st.integers(0, 99))
async def test_no_interleaving_breaks_a_guarantee(
    policy: Policy, story: list[tuple[str, object]], seed: int
) -> None:
    clock, probe, judge, crowd = ManualClock(), ScriptedProbe([REFUSED]), Judge(), Crowd()
    startup = Orchestrator(
        probe,
        policy=policy,
        conditions=["listener", ConditionSpec("cache", required=False)],
        observers=[judge],
        clock=clock,
        random=Random(seed),
    )
    async with anyio.create_task_group() as tasks, startup:
        for verb, what in story:
            match verb, what:
                case "advance", float(seconds):
                    await clock.advance(seconds)
                case "jump", float(seconds):
                    await clock.jump(seconds)
                case "redis", answer:
                    probe.then(answer)  # type: ignore[arg-type]  # one of the strategy's
                case (("listener" | "cache"), bool(satisfied)):
                    startup.condition(verb).set(satisfied)
                case "join", str(kind):
                    tasks.start_soon(crowd.member, startup.subscribe(), kind)
                case "leave", int(number) if number < len(crowd.members):
                    crowd.members[number][0].cancel()
                case "callback", str(kind):
                    startup.on(*Stage)(callback_of(kind, startup))
        # Whatever happened: with everything well again, the service becomes ready.
        probe.then(None)
        startup.condition("listener").set(satisfied=True)
        await clock.advance(100)
        assert judge.events[-1].current is Stage.READY
    assert judge.wrong == []
    assert crowd.verdict(judge.events[-1].sequence) == []
    assert probe.closed
