"""An exhaustive walk over every state that the machine can reach, time in whole steps.

With durations that are small multiples of one step, and the past forgotten where it no longer
matters, the machine has finitely many states. All of them are visited; on every edge the laws are
checked, and from every state the way to ready is searched for.
"""

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from states import (
    LEGAL,
    BootFinished,
    ConditionChanged,
    Fact,
    Failure,
    FailureKind,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
    StartupMachine,
    TimerFired,
)

STEP = 0.25  # a power of two: sums of it are exact
POLICY = Policy(
    budget_seconds=4 * STEP,
    attempt_timeout_seconds=STEP,
    grace_seconds=2 * STEP,
    failures_to_degrade=2,
    stall_seconds=STEP,
    flap_window_seconds=3 * STEP,
    flap_grace_seconds=3 * STEP,
    flap_grace_cap_seconds=4 * STEP,
)
REFUSED = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "refused")
WRONG = Failure(FailureKind.PERMANENT, "AuthenticationError", "wrong password")

State = dict[str, Any]  # the attributes of a counters, as they are
Key = tuple[object, ...]


class Walker:
    """One machine whose state is put in and taken out."""

    def __init__(self, conditions: dict[str, bool]) -> None:
        self.machine = StartupMachine(POLICY, conditions)
        self.counters = self.machine._counters
        self.names = tuple(conditions)

    def save(self) -> State:
        state = dict(vars(self.counters))
        for name in ("conditions", "unmet", "stage_seconds"):
            state[name] = state[name].copy()
        return state

    def load(self, state: State) -> None:
        for name, value in state.items():
            copied = name in {"conditions", "unmet", "stage_seconds"}
            setattr(self.counters, name, value.copy() if copied else value)
        self.machine.stage = self.counters.stage

    def key(self) -> Key:
        """What decides the future, relative to now; whatever is past its meaning is cut off."""
        counters, now = self.counters, self.counters.last_at
        grace = counters.stage is Stage.GRACE
        budget = counters.budget_ends_at
        ready = counters.ready_since
        return (
            counters.stage,
            counters.in_startup,
            counters.probe_answers,
            min(counters.failures_in_row, POLICY.failures_to_degrade),
            tuple(sorted(counters.unmet)),
            None if budget is None or not counters.in_startup else max(0.0, budget - now),
            min(counters.falls, 4),
            min(counters.proved_seconds, 5 * STEP) if grace else None,
            min(counters.unproved_seconds, 5 * STEP) if grace else None,
            None if counters.stalled_at is None else min(now - counters.stalled_at, STEP),
            None if ready is None or counters.stage is not Stage.READY else min(now - ready, 1.0),
        )

    def facts(self) -> Iterator[Fact]:
        """Every legal fact, at once, one step later, and after a stall."""
        for gap in (0.0, STEP, 3 * STEP):
            at = self.counters.last_at + gap
            candidates: list[Fact] = [
                BootFinished(at),
                ProbeSucceeded(at, 0.0),
                ProbeFailed(at, 0.0, REFUSED),
                ProbeFailed(at, 0.0, WRONG),
                TimerFired(at),
            ]
            for name in self.names:
                candidates += [ConditionChanged(at, name, True), ConditionChanged(at, name, False)]
            yield from (f for f in candidates if type(f) in LEGAL[self.machine.stage])


def check(before: State, fact: Fact, event: StageChanged | None, walker: Walker) -> None:
    counters = walker.counters
    where = f"{before['stage']} --{fact}--> {counters.stage}"
    assert (event is None) == (counters.stage is before["stage"]), where
    if counters.stage is Stage.READY:
        assert not counters.unmet, f"ready with a required condition false: {where}"
        assert counters.failures_in_row < POLICY.failures_to_degrade, where
    if counters.stage is Stage.GRACE:
        assert counters.probe_answers, f"grace without an answer: {where}"
        assert counters.in_startup or not counters.unmet, (
            f"a later grace with nothing to prove: {where}"
        )
    if counters.stage is Stage.DEGRADED:
        assert counters.unmet or not counters.probe_answers, f"degraded though all is well: {where}"
    if event is None:
        return
    if event.current is Stage.GRACE:
        assert counters.proved_seconds == counters.unproved_seconds == 0.0, f"old proof: {where}"
    if event.current is Stage.READY:
        assert event.previous is Stage.GRACE, where
        assert counters.probe_answers, f"ready without a success after the last failure: {where}"
        proved = before["proved_seconds"]
        if isinstance(fact, ProbeSucceeded):
            gap = fact.at - before["last_at"]
            ran = gap if gap <= POLICY.stall_seconds else 0.0
            stalled_at, half = before["stalled_at"], POLICY.stall_seconds / 2
            released = half if stalled_at is not None and fact.at - stalled_at >= half else 0.0
            proved += before["unproved_seconds"] + ran + released
        assert proved >= POLICY.grace_seconds, f"grace was not served: {where}"
    if event.current is Stage.PROBING_REDIS:
        assert before["in_startup"], f"probing_redis belongs to start-up: {where}"


@pytest.mark.parametrize(
    "conditions",
    [{}, {"listener": True}, {"listener": True, "cache": False}],
    ids=["none", "required", "optional"],
)
def test_no_reachable_state_breaks_a_law_or_is_a_dead_end(conditions: dict[str, bool]) -> None:
    walker = Walker(conditions)
    first = walker.key()
    states: dict[Key, State] = {first: walker.save()}
    arrows: dict[Key, set[Key]] = {}  # backwards: from where each state is reached
    queue = deque([first])
    while queue:
        key = queue.popleft()
        state = states[key]
        walker.load(state)
        for fact in tuple(walker.facts()):
            walker.load(state)
            event = walker.machine.receive(fact)
            check(state, fact, event, walker)
            after = walker.key()
            arrows.setdefault(after, set()).add(key)
            if after not in states:
                states[after] = walker.save()
                queue.append(after)
    assert {state["stage"] for state in states.values()} == set(Stage)
    assert len(states) > 100

    hopeful = {key for key, state in states.items() if state["stage"] is Stage.READY}
    queue = deque(hopeful)
    while queue:
        for earlier in arrows.get(queue.popleft(), ()):
            if earlier not in hopeful:
                hopeful.add(earlier)
                queue.append(earlier)
    assert set(states) == hopeful, "a state from which ready cannot be reached"
