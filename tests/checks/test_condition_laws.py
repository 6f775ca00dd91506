"""Laws of conditions under arbitrary weather: checks, tasks and those that are set by hand."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import (
    Check,
    ConditionChanged,
    ConditionOrderError,
    ConditionSpec,
    Fact,
    Observer,
    Orchestrator,
    Policy,
    Probe,
    ProbeFailed,
    ProbeResult,
    ProbeSucceeded,
    Stage,
    StageChanged,
    Task,
)
from orchestrator.testing import REFUSED, ManualClock
from tests.core.account_support import adds_up

NAMES = ["a", "b", "c", "d", "e"]
INTERVAL_SECONDS, FAILURES = 5.0, 2

STALE_SECONDS = 1.2 * INTERVAL_SECONDS + FAILURES * (1.0 + 0.08) + (FAILURES - 1) * 0.12
"""An answer is asked for again after the interval, with its jitter; each attempt that fails takes
its time-out and two allowances at most, and the next one follows after 0.1 s with its jitter."""


class Weather(Probe):
    """Answers, refuses, or hangs, and remembers when it answered last."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.how = "ok"
        self.answered_at = clock.now()

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        if self.how == "hangs":
            await anyio.sleep_forever()
        if self.how == "ok":
            self.answered_at = self.clock.now()
        return ProbeResult(0.0, None if self.how == "ok" else REFUSED)


class World(Observer):
    """An orchestrator with conditions of all kinds, and a judge of what it does."""

    def __init__(self, kinds: Sequence[str], after: Mapping[str, Sequence[str]]) -> None:
        self.clock = ManualClock()
        self.redis = Weather(self.clock)
        self.checks: dict[str, Weather] = {}
        self.crashes = {name: anyio.Event() for name in NAMES}
        self.after = after
        self.holding: set[str] = set()
        self.stalled_seconds = 0.0
        self.wrong: list[str] = []
        self.ready = False
        self.required = {name for name, kind in zip(NAMES, kinds, strict=True) if kind[0] != "?"}
        self.by_hand = {name for name, kind in zip(NAMES, kinds, strict=True) if kind == "hand"}
        specs = [self.spec(name, kind) for name, kind in zip(NAMES, kinds, strict=True)]
        self.startup = Orchestrator(
            self.redis,
            policy=Policy(probe_interval_seconds=INTERVAL_SECONDS, failures_to_degrade=FAILURES),
            conditions=specs,
            observers=[self],
            clock=self.clock,
            random=Random(1),
        )

    def spec(self, name: str, kind: str) -> ConditionSpec:
        needed, after = name in self.required, self.after.get(name, ())
        match kind.strip("?"):
            case "check":
                probe = self.checks[name] = Weather(self.clock)
                return Check(
                    name,
                    probe,
                    required=needed,
                    after=after,
                    interval_seconds=INTERVAL_SECONDS,
                    failures_to_degrade=FAILURES,
                )
            case "task":
                return Task(name, self.work(name), required=needed, after=after)
        return ConditionSpec(name, needed)

    def work(self, name: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            if missing := set(self.after.get(name, ())) - self.holding:
                self.wrong.append(f"{name} was started without {missing}")
            await self.crashes[name].wait()
            raise OSError

        return run

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        match fact:
            case ProbeSucceeded():
                self.holding.add("redis")
            case ProbeFailed():
                self.holding.discard("redis")
            case ConditionChanged(name=name, satisfied=satisfied):
                (self.holding.add if satisfied else self.holding.discard)(name)
        if changed is not None:
            self.ready = changed.current is Stage.READY
        if self.ready and (missing := self.required - self.holding):
            self.wrong.append(f"ready without {missing}")

    def look(self) -> None:
        """What must be true at any time."""
        limit = STALE_SECONDS + self.stalled_seconds
        for name, probe in self.checks.items():
            age = self.clock.now() - probe.answered_at
            if name in self.holding and age > limit:
                self.wrong.append(f"{name} holds on an answer that is {age} s old")
        if not adds_up(self.startup.account()):
            self.wrong.append(f"it does not add up: {self.startup.account()}")

    async def live(self, story: Sequence[tuple[str, object]]) -> None:
        for verb, what in story:
            match verb, what:
                case "advance", float(seconds):
                    await self.clock.advance(seconds)
                case "stall", float(seconds):
                    self.stalled_seconds += seconds
                    await self.clock.jump(seconds)
                case "redis", str(how):
                    self.redis.how = how
                case str(name), str(how) if name in self.checks:
                    self.checks[name].how = how
                case str(name), "crashes":
                    self.crashes[name].set()
                    self.crashes[name] = anyio.Event()
                case str(name), str(how) if name in self.by_hand:
                    self.startup.condition(name).set(how == "ok")
            self.look()


kinds = st.lists(
    st.sampled_from(["check", "task", "hand", "?check", "?task"]), min_size=5, max_size=5
)
orders = st.dictionaries(
    st.sampled_from(NAMES), st.lists(st.sampled_from(["redis", *NAMES]), max_size=2), max_size=4
)
stories = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.sampled_from([0.01, 0.3, 2.0, 9.0])),
        st.tuples(st.just("stall"), st.sampled_from([0.5, 20.0])),
        st.tuples(st.just("redis"), st.sampled_from(["ok", "refuses", "hangs"])),
        st.tuples(st.sampled_from(NAMES), st.sampled_from(["ok", "refuses", "hangs", "crashes"])),
    ),
    max_size=12,
)


def has_circle(after: Mapping[str, Sequence[str]]) -> bool:
    """Whether one of them comes after itself, by whatever way; not by sorting, as ours does."""

    def reaches(start: str, seen: frozenset[str]) -> bool:
        return any(one in seen or reaches(one, seen | {one}) for one in after.get(start, ()))

    return any(reaches(name, frozenset({name})) for name in after)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kinds=kinds, order=orders, story=stories)
@pytest.mark.anyio
async def test_whatever_happens_no_law_of_conditions_is_broken(
    kinds: list[str], order: dict[str, list[str]], story: list[tuple[str, object]]
) -> None:
    by_hand = {name for name, kind in zip(NAMES, kinds, strict=True) if kind == "hand"}
    after = {name: its for name, its in order.items() if name not in by_hand}
    if has_circle(after):
        with pytest.raises(ConditionOrderError, match="in a circle"):
            World(kinds, after)
        return
    world = World(kinds, after)
    async with world.startup as startup:
        await world.live(story)
        # With everything well again, nothing keeps the service from ready: no order deadlocks.
        world.redis.how = "ok"
        for probe in world.checks.values():
            probe.how = "ok"
        for name in by_hand:
            startup.condition(name).set(True)
        await world.clock.advance(150)
        world.look()
        assert startup.stage is Stage.READY, startup.explain()
        assert all(one.satisfied for one in startup.explain().conditions.values())
        assert startup.account().ready
    assert world.wrong == []
