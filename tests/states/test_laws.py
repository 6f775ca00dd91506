"""The laws of the machine, checked on arbitrary sequences of facts."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from states import (
    BootFinished,
    ConditionChanged,
    Fact,
    Failure,
    FailureKind,
    IllegalFact,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    Snapshot,
    Stage,
    StageChanged,
    StartupMachine,
    TimerFired,
)

REFUSED = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "refused")
WRONG = Failure(FailureKind.PERMANENT, "AuthenticationError", "wrong password")
NAMES = ("listener", "cache")

policies = st.builds(
    Policy,
    budget_seconds=st.sampled_from([1.0, 10.0]),
    grace_seconds=st.sampled_from([0.0, 0.3, 1.0]),
    failures_to_degrade=st.integers(1, 4),
    stall_seconds=st.sampled_from([0.05, 0.25]),
    flap_window_seconds=st.sampled_from([0.0, 5.0, 60.0]),
    flap_grace_cap_seconds=st.sampled_from([0.5, 30.0]),
)
gaps = st.sampled_from([0.0, 0.01, 0.1, 0.3, 2.0, 20.0]) | st.floats(0, 100)
"""Seconds between facts, with those that matter to the policies above."""


class Laws(RuleBasedStateMachine):
    """Feeds facts and keeps its own, independent account of what the laws need."""

    @initialize(policy=policies, required=st.sets(st.sampled_from(NAMES)))
    def begin(self, policy: Policy, required: set[str]) -> None:
        self.policy = policy
        self.required = {name: name in required for name in NAMES}
        self.machine = StartupMachine(policy, self.required)
        self.now = 0.0
        self.conditions = dict.fromkeys(NAMES, False)
        self.answers = False
        self.failures = 0
        self.running = 0.0  # time the loop surely ran since this grace's last answer
        self.proved = 0.0
        self.stalled_at: float | None = None
        self.events: list[StageChanged] = []

    def feed(self, make: type[Fact], gap: float, *args: object) -> None:
        before_now, self.now = self.now, self.now + gap
        gap = self.now - before_now
        fact = make(self.now, *args)  # type: ignore[arg-type]  # each rule gives its own fact's
        before = self.machine.stage
        snapshot = self.machine.snapshot
        try:
            event = self.machine.receive(fact)
        except IllegalFact:
            assert self.machine.snapshot == snapshot
            self.now = before_now
            return
        if before is Stage.GRACE:
            self.count_time(gap)
        self.account(fact)
        assert (event is not None) == (self.machine.stage is not before)
        if event is not None:
            assert event.waits_for == self.machine.snapshot.waits_for
            self.check(event, before, snapshot)

    def count_time(self, gap: float) -> None:
        """A stall counts for half of stall_seconds, once the loop has run for as long after it."""
        half = self.policy.stall_seconds / 2
        if self.stalled_at is not None and self.now - self.stalled_at >= half:
            self.running, self.stalled_at = self.running + half, None
        if gap <= self.policy.stall_seconds:
            self.running += gap
        else:
            self.stalled_at = self.now

    def account(self, fact: Fact) -> None:
        match fact:
            case ProbeSucceeded():
                self.answers, self.failures = True, 0
                self.proved, self.running = self.proved + self.running, 0.0
            case ProbeFailed():
                self.answers, self.failures = False, self.failures + 1
            case ConditionChanged(name=name, satisfied=satisfied):
                self.conditions[name] = satisfied

    def check(self, event: StageChanged, before: Stage, snapshot: Snapshot) -> None:
        assert event.sequence == len(self.events) + 1, "sequence is gapless"
        assert event.previous is before, "events form a chain"
        assert event.at == self.now, "an event carries its cause's time"
        assert event.elapsed_seconds >= 0, "time never runs backwards"
        if self.events:
            assert event.at >= self.events[-1].at, "time never runs backwards"
        if event.current is Stage.READY:
            assert before is Stage.GRACE, "ready is only entered through grace"
            assert self.answers, "ready needs a success after the last failure"
            assert self.proved >= snapshot.grace_seconds - 1e-5, "grace is always served"
        if before is Stage.READY:
            unmet = any(self.required[n] and not self.conditions[n] for n in NAMES)
            confirmed = self.failures >= self.policy.failures_to_degrade
            assert unmet or confirmed, "ready is left for a confirmed reason only"
        if event.current is Stage.GRACE:
            self.proved, self.running, self.stalled_at = 0.0, 0.0, None
        self.events.append(event)

    @rule(gap=gaps)
    def boot_finished(self, gap: float) -> None:
        self.feed(BootFinished, gap)

    @rule(gap=gaps, latency=st.floats(0, 10))
    def probe_succeeded(self, gap: float, latency: float) -> None:
        self.feed(ProbeSucceeded, gap, latency)

    @rule(gap=gaps, failure=st.sampled_from([REFUSED, REFUSED, WRONG]))
    def probe_failed(self, gap: float, failure: Failure) -> None:
        self.feed(ProbeFailed, gap, 0.001, failure)

    @rule(gap=gaps, name=st.sampled_from(NAMES), satisfied=st.booleans())
    def condition_changed(self, gap: float, name: str, satisfied: bool) -> None:
        self.feed(ConditionChanged, gap, name, satisfied)

    @rule(gap=gaps)
    def timer_fired(self, gap: float) -> None:
        self.feed(TimerFired, gap)

    @rule()
    def timer_on_time(self) -> None:
        wake_at = self.machine.wake_at
        if wake_at is not None:
            self.feed(TimerFired, max(0.0, wake_at - self.now))

    @rule(steps=st.integers(1, 12))
    def proof(self, steps: int) -> None:
        for _ in range(steps):
            self.feed(ProbeSucceeded, 0.04, 0.001)

    @invariant()
    def ready_only_with_redis_and_conditions(self) -> None:
        if not hasattr(self, "machine"):
            return
        if self.machine.stage is Stage.READY:
            assert all(self.conditions[n] for n in NAMES if self.required[n])
            assert self.failures < self.policy.failures_to_degrade
            assert self.machine.snapshot.last_success_at is not None

    @invariant()
    def grace_and_degraded_are_never_idle(self) -> None:
        if not hasattr(self, "machine"):
            return
        well = all(self.conditions[n] for n in NAMES if self.required[n])
        if self.machine.stage is Stage.GRACE:
            assert self.answers
            assert well or self.machine.snapshot.in_startup
        if self.machine.stage is Stage.DEGRADED:
            assert not (well and self.answers), "degraded though all is well"

    def teardown(self) -> None:
        """Every state can still reach ready."""
        if hasattr(self, "machine"):
            reach_ready(self.machine, self.now, NAMES)


def reach_ready(machine: StartupMachine, now: float, names: tuple[str, ...]) -> None:
    """Let everything be well from now on; the machine must become ready soon."""
    if machine.stage is Stage.BOOTING:
        machine.receive(BootFinished(now))
    for name in names:
        machine.receive(ConditionChanged(now, name, satisfied=True))
    for _ in range(2500):
        if machine.stage is Stage.READY:
            return
        now += 0.04  # less than any stall
        machine.receive(ProbeSucceeded(now, 0.001))
        if machine.wake_at is not None and machine.wake_at <= now:
            machine.receive(TimerFired(now))
    raise AssertionError(f"not ready after 100 s of good news: {machine.snapshot}")


TestLaws = Laws.TestCase
TestLaws.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


@given(policies, st.lists(st.floats(0, 1000), min_size=1, max_size=20))
def test_wake_at_is_never_forgotten_and_never_spins(policy: Policy, gaps: list[float]) -> None:
    """A timer that is served moves `wake_at` on, or changes the stage: no busy loop."""
    machine = StartupMachine(policy)
    now = 0.0
    machine.receive(BootFinished(now))
    machine.receive(ProbeSucceeded(now, 0.001))
    for gap in gaps:
        wake_at = machine.wake_at
        if wake_at is None:
            return
        now = max(now + gap, wake_at)
        stage = machine.stage
        machine.receive(TimerFired(now))
        again = machine.wake_at
        assert again is None or again > now or machine.stage is not stage
