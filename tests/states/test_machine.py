"""Every row of the table, one story each, and what is illegal."""

import math

import pytest

from states import (
    LEGAL,
    TABLE,
    BootFinished,
    ConditionChanged,
    DrainBegan,
    Fact,
    Failure,
    FailureKind,
    IllegalFact,
    Missing,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
    StartupMachine,
    TimerFired,
)

REFUSED = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "nothing listens there")
WRONG = Failure(FailureKind.PERMANENT, "AuthenticationError", "the password is wrong")
POLICY = Policy(grace_seconds=0.5, budget_seconds=10, failures_to_degrade=3)


def ok(at: float) -> ProbeSucceeded:
    return ProbeSucceeded(at, 0.001)


def failed(at: float, failure: Failure = REFUSED) -> ProbeFailed:
    return ProbeFailed(at, 0.001, failure)


def holds(at: float, name: str = "listener") -> ConditionChanged:
    return ConditionChanged(at, name, satisfied=True)


def lost(at: float, name: str = "listener") -> ConditionChanged:
    return ConditionChanged(at, name, satisfied=False, reason="its task ended")


def machine_in(
    *facts: Fact, policy: Policy = POLICY, conditions: tuple[str, ...] = ()
) -> StartupMachine:
    machine = StartupMachine(policy, conditions)
    for fact in facts:
        machine.receive(fact)
    return machine


def proof(begin: float, end: float) -> list[Fact]:
    """Successes close enough together that all the time between counts."""
    steps = math.ceil((end - begin) / 0.1)
    return [ok(begin + (end - begin) * step / steps) for step in range(steps + 1)]


def ready(policy: Policy = POLICY, conditions: tuple[str, ...] = ()) -> StartupMachine:
    """A machine that became ready at 2.5."""
    met = [holds(2.0, name) for name in conditions]
    machine = machine_in(
        BootFinished(1), *met, *proof(2.0, 2.5), policy=policy, conditions=conditions
    )
    assert machine.stage is Stage.READY
    return machine


def changes(machine: StartupMachine, *facts: Fact) -> list[tuple[Stage, Stage]]:
    events = [machine.receive(fact) for fact in facts]
    return [(event.previous, event.current) for event in events if event]


# -- the rows ----------------------------------------------------------------------------------


def test_boot_finished_begins_probing() -> None:
    machine = StartupMachine(POLICY, started_at=3.0)
    event = machine.receive(BootFinished(5.0))
    assert event == StageChanged(
        1,
        Stage.BOOTING,
        Stage.PROBING_REDIS,
        BootFinished(5.0),
        at=5.0,
        elapsed_seconds=2.0,
        waits_for=(Missing(None),),
    )


def test_the_first_answer_begins_grace() -> None:
    machine = machine_in(BootFinished(1))
    assert changes(machine, failed(2), ok(3)) == [(Stage.PROBING_REDIS, Stage.GRACE)]


def test_a_permanent_failure_degrades_at_once() -> None:
    machine = machine_in(BootFinished(1))
    assert changes(machine, failed(2, WRONG)) == [(Stage.PROBING_REDIS, Stage.DEGRADED)]


def test_a_spent_budget_degrades() -> None:
    machine = machine_in(BootFinished(1), failed(10.9))
    assert machine.wake_at == 11.0
    assert changes(machine, TimerFired(10.99)) == []
    assert changes(machine, TimerFired(11.0)) == [(Stage.PROBING_REDIS, Stage.DEGRADED)]


def test_grace_served_with_every_condition_true_is_ready() -> None:
    machine = machine_in(BootFinished(1), *proof(2.0, 2.4))
    assert machine.stage is Stage.GRACE
    assert changes(machine, ok(2.5)) == [(Stage.GRACE, Stage.READY)]


def test_without_grace_the_first_timer_makes_it_ready() -> None:
    machine = machine_in(BootFinished(1), ok(2), policy=Policy())
    assert machine.wake_at == 2
    assert changes(machine, TimerFired(2)) == [(Stage.GRACE, Stage.READY)]


def test_a_condition_that_comes_last_makes_it_ready() -> None:
    machine = machine_in(BootFinished(1), *proof(2, 4), conditions=("listener",))
    assert machine.stage is Stage.GRACE
    assert changes(machine, holds(4.1)) == [(Stage.GRACE, Stage.READY)]


def test_a_failure_in_grace_starts_probing_again_while_in_startup() -> None:
    machine = machine_in(BootFinished(1), *proof(2.0, 2.4))
    assert changes(machine, failed(2.45)) == [(Stage.GRACE, Stage.PROBING_REDIS)]


@pytest.mark.parametrize("fact", [failed(3, WRONG), failed(11.5)])
def test_a_failure_in_grace_degrades_when_waiting_cannot_help(fact: Fact) -> None:
    machine = machine_in(BootFinished(1), ok(2), conditions=("listener",))
    assert changes(machine, fact) == [(Stage.GRACE, Stage.DEGRADED)]


def test_a_failure_in_grace_after_startup_degrades() -> None:
    machine = ready()
    assert changes(machine, failed(3), failed(4), failed(5), ok(6), failed(6.1)) == [
        (Stage.READY, Stage.DEGRADED),
        (Stage.DEGRADED, Stage.GRACE),
        (Stage.GRACE, Stage.DEGRADED),
    ]


def test_the_budget_bounds_the_wait_for_conditions() -> None:
    machine = machine_in(BootFinished(1), *proof(2, 3), conditions=("listener",))
    assert machine.wake_at == 11.0
    assert changes(machine, TimerFired(11.0)) == [(Stage.GRACE, Stage.DEGRADED)]


def test_a_spent_budget_does_not_end_a_grace_that_only_needs_time() -> None:
    machine = machine_in(BootFinished(1), ok(10.9), TimerFired(11.1))
    assert machine.stage is Stage.GRACE
    assert changes(machine, *proof(11.1, 11.6)) == [(Stage.GRACE, Stage.READY)]


def test_ready_takes_several_failures_in_a_row() -> None:
    machine = ready()
    assert changes(machine, failed(3), failed(4), ok(5), failed(6), failed(7)) == []
    assert changes(machine, failed(8)) == [(Stage.READY, Stage.DEGRADED)]


def test_ready_falls_with_a_required_condition() -> None:
    machine = ready(conditions=("listener",))
    event = machine.receive(lost(3))
    assert event is not None
    assert event.current is Stage.DEGRADED
    assert event.cause == lost(3)


def test_an_optional_condition_only_reports() -> None:
    machine = StartupMachine(POLICY, {"cache": False})
    for fact in (BootFinished(1), *proof(2.0, 2.5)):
        machine.receive(fact)
    assert machine.stage is Stage.READY
    assert changes(machine, holds(3, "cache"), lost(4, "cache")) == []
    assert machine.snapshot.conditions["cache"].reason == "its task ended"


def test_a_condition_lost_in_a_later_grace_degrades() -> None:
    machine = ready(conditions=("listener",))
    assert changes(machine, lost(3), holds(4), lost(4.1)) == [
        (Stage.READY, Stage.DEGRADED),
        (Stage.DEGRADED, Stage.GRACE),
        (Stage.GRACE, Stage.DEGRADED),
    ]


def test_recovery_waits_for_redis_and_every_condition() -> None:
    machine = ready(conditions=("listener",))
    assert changes(machine, lost(3), failed(4)) == [(Stage.READY, Stage.DEGRADED)]
    assert changes(machine, holds(5)) == []
    assert changes(machine, ok(6)) == [(Stage.DEGRADED, Stage.GRACE)]


# -- grace is continuous proof -----------------------------------------------------------------


def test_grace_starts_anew_after_a_failure() -> None:
    machine = machine_in(BootFinished(1), *proof(2.0, 2.4), failed(2.45))
    assert changes(machine, *proof(2.5, 2.9)) == [(Stage.PROBING_REDIS, Stage.GRACE)]
    assert changes(machine, ok(3.0)) == [(Stage.GRACE, Stage.READY)]


def test_a_frozen_process_does_not_wake_up_with_its_grace_served() -> None:
    machine = machine_in(BootFinished(1), *proof(2.0, 2.4))
    assert changes(machine, TimerFired(3.9), ok(3.9)) == []
    assert machine.snapshot.grace_left_seconds == pytest.approx(0.1)
    assert machine.snapshot.grace_stalls == 1
    assert changes(machine, ok(4.0)) == [(Stage.GRACE, Stage.READY)]


def test_a_loop_that_stalls_again_and_again_is_through_in_the_end() -> None:
    machine = machine_in(BootFinished(1), ok(2.0))
    now, attempts = 2.0, 0
    while machine.stage is Stage.GRACE and attempts < 100:
        now, attempts = now + 0.3, attempts + 1
        machine.receive(ok(now))
    assert machine.stage is Stage.READY
    assert attempts >= 0.5 / (POLICY.stall_seconds / 2)


def test_time_without_an_answer_proves_nothing() -> None:
    machine = machine_in(BootFinished(1), ok(2.0))
    for tick in range(20):
        assert machine.wake_at is not None
        assert machine.wake_at <= 2.0 + (tick + 1) * POLICY.stall_seconds / 2 + 1e-9
        assert machine.receive(TimerFired(machine.wake_at)) is None
    assert machine.stage is Stage.GRACE


# -- flap damping ------------------------------------------------------------------------------


def fall_and_recover(machine: StartupMachine, at: float) -> float:
    """Let ready fall at `at`; return the grace that the recovery asked for."""
    for step in range(3):
        machine.receive(failed(at + step * 0.1))
    machine.receive(ok(at + 1))
    grace = machine.snapshot.grace_seconds
    for fact in proof(at + 1, at + 1 + max(grace, 0.1)):
        if machine.stage is Stage.GRACE:
            machine.receive(fact)
    assert machine.stage is Stage.READY
    return grace


def test_each_fall_without_calm_lengthens_the_next_grace_up_to_a_cap() -> None:
    policy = Policy(grace_seconds=0.25, flap_grace_seconds=0.5, flap_grace_cap_seconds=3)
    machine = machine_in(BootFinished(1), *proof(2, 3), policy=policy)
    graces = [fall_and_recover(machine, 10.0 * n) for n in range(1, 7)]
    assert graces == [0.25, 0.75, 1.25, 2.25, 3.0, 3.0]


def test_calm_forgets_the_falls() -> None:
    policy = Policy(flap_window_seconds=60)
    machine = machine_in(BootFinished(1), ok(2), TimerFired(2), policy=policy)
    assert [fall_and_recover(machine, at) for at in (10, 20, 200, 210)] == [0, 0.5, 0, 0.5]


# -- the drain ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.BOOTING])
def test_in_a_drain_facts_only_count_and_the_stage_stays(stage: Stage) -> None:
    machine = in_stage(stage)
    assert machine.draining_since is None
    assert machine.receive(DrainBegan(5, "SIGTERM")) is None
    later = [failed(6, WRONG), failed(7), failed(8), failed(9), ok(10), *proof(20, 30)]
    assert changes(machine, *later, DrainBegan(31, "again"), TimerFired(100)) == []
    known = machine.snapshot
    assert (known.stage, known.draining_since, known.last_at) == (stage, 5, 100)
    assert known.attempts >= len(later)
    assert machine.wake_at is None, "a timer that fires for nothing would fire for ever"


# -- illegal facts -----------------------------------------------------------------------------


def in_stage(stage: Stage) -> StartupMachine:
    stories: dict[Stage, list[Fact]] = {
        Stage.BOOTING: [],
        Stage.PROBING_REDIS: [BootFinished(1)],
        Stage.GRACE: [BootFinished(1), ok(2)],
        Stage.READY: [BootFinished(1), *proof(2.0, 2.5)],
        Stage.DEGRADED: [BootFinished(1), failed(2, WRONG)],
    }
    machine = machine_in(*stories[stage])
    assert machine.stage is stage
    return machine


FACTS: list[Fact] = [
    BootFinished(5),
    ok(5),
    failed(5),
    TimerFired(5),
    ConditionChanged(5, "nobody", satisfied=True),
    DrainBegan(5, "SIGTERM"),
    TimerFired(-1),
    TimerFired(math.nan),
    TimerFired(math.inf),
]


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize("fact", FACTS, ids=repr)
def test_an_illegal_fact_raises_and_changes_nothing(stage: Stage, fact: Fact) -> None:
    machine = in_stage(stage)
    before = machine.snapshot
    good = type(fact) in LEGAL[stage] and fact.at == 5 and not isinstance(fact, ConditionChanged)
    if good:
        machine.receive(fact)
        assert machine.snapshot.last_at == 5
    else:
        with pytest.raises(IllegalFact):
            machine.receive(fact)
        assert machine.snapshot == before


def test_the_text_of_an_illegal_fact_says_what_is_wrong() -> None:
    machine = machine_in(BootFinished(4), conditions=("listener",))
    with pytest.raises(IllegalFact, match="BootFinished cannot be true in stage probing_redis"):
        machine.receive(BootFinished(5))
    with pytest.raises(IllegalFact, match=r"before the last fact's 4: time cannot run backwards"):
        machine.receive(ok(3))
    with pytest.raises(IllegalFact, match="'other' was never declared; declared: 'listener'"):
        machine.receive(holds(5, "other"))


def test_every_row_of_the_table_is_legal_and_leaves_its_stage() -> None:
    for row in TABLE:
        assert set(row.facts) <= LEGAL[row.source]
        assert row.source is not row.target


def test_single_conditions_can_be_asked_for() -> None:
    machine = StartupMachine(POLICY, ["listener", "cache"])
    assert not machine.holds(None)
    machine.receive(BootFinished(1))
    machine.receive(holds(1.5))
    machine.receive(ok(2.0))
    assert [machine.holds(name) for name in (None, "listener", "cache")] == [True, True, False]
    machine.receive(lost(2.5))
    assert not machine.holds("listener")


def test_the_snapshot_accounts_for_all_time() -> None:
    machine = ready()
    machine.receive(ok(7.5))
    snapshot = machine.snapshot
    assert sum(snapshot.stage_seconds.values()) == pytest.approx(7.5)
    assert snapshot.stage_seconds[Stage.READY] == pytest.approx(5.0)
    assert snapshot.was_ready
    assert not snapshot.in_startup
