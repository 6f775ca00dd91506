"""The deploy gate, in virtual time: what passes, what fails at once, and what is waited for."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.cli.fleet.gate_run import GateResult, run_gate
from orchestrator.fleet import Contact, FleetNews, Instance, PresenceVerdict
from orchestrator.fleet._deploy_gate import DeployGate, DeployOutcome
from states import Failure, FailureKind, Stage
from tests.fleet.test_fleet_rows import instance

ALIVE, STUCK, LEFT, SILENT, UNKNOWN = PresenceVerdict
PASSED, FAILED, PERMANENT, TIMED_OUT, UNREACHABLE = DeployOutcome
BAD_PASSWORD = Failure(FailureKind.PERMANENT, "AuthenticationError", "the password is wrong")
AWAY = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "redis: nothing listens there")
FORBIDDEN = Failure(FailureKind.PERMANENT, "NOPERM", "redis: no right")


def new(name: str, stage: Stage = Stage.READY, **more: object) -> Instance:
    return instance(name, stage, version="2", **more)  # type: ignore[arg-type]  # a test names the fields


def gate(wanted: int = 2, allow_degraded: int = 0) -> DeployGate:
    return DeployGate(wanted, "2", for_seconds=10.0, allow_degraded=allow_degraded)


def test_enough_instances_that_were_ready_for_long_enough_pass() -> None:
    deploy = gate()
    fleet = [new("a"), new("b")]
    assert deploy.decide(fleet, 0.0) is None
    assert deploy.decide(fleet, 9.9) is None
    assert deploy.decide(fleet, 10.0) is PASSED


def test_each_of_them_must_have_been_ready_for_so_long() -> None:
    deploy = gate()
    deploy.decide([new("a")], 0.0)
    deploy.decide([new("a"), new("b")], 8.0)
    assert deploy.decide([new("a"), new("b")], 17.9) is None
    assert deploy.decide([new("a"), new("b")], 18.0) is PASSED


def test_one_that_was_not_ready_for_a_moment_begins_anew() -> None:
    deploy = gate(1)
    deploy.decide([new("a")], 0.0)
    deploy.decide([new("a", Stage.GRACE)], 5.0)
    deploy.decide([new("a")], 6.0)
    assert deploy.decide([new("a")], 15.9) is None
    assert deploy.decide([new("a")], 16.0) is PASSED


def test_a_moment_between_two_looks_is_seen_by_the_sequence() -> None:
    deploy = gate(1)
    before, after = new("a"), new("a")
    object.__setattr__(after.state.entry, "sequence", 9)
    deploy.decide([before], 0.0)
    assert deploy.decide([after], 10.0) is None
    assert deploy.decide([after], 20.0) is PASSED


@pytest.mark.parametrize(
    "other",
    [
        new("b", presence=SILENT),
        new("b", presence=UNKNOWN),
        new("b", presence=STUCK),
        new("b", presence=LEFT),
        new("b", draining=True),
        new("b", Stage.GRACE),
        instance("b", version="1"),
    ],
    ids=["silent", "unknown", "stuck", "left", "draining", "grace", "old"],
)
def test_what_does_not_serve_now_does_not_count(other: Instance) -> None:
    deploy = gate()
    for at in (0.0, 10.0, 100.0):
        assert deploy.decide([new("a"), other], at) is None


def test_more_than_enough_pass_although_one_more_is_on_its_way() -> None:
    deploy = gate()
    fleet = [new("a"), new("b"), new("c", Stage.PROBING_REDIS)]
    deploy.decide(fleet, 0.0)
    assert deploy.decide(fleet, 10.0) is PASSED


def test_a_permanent_failure_fails_at_once_with_its_reason() -> None:
    deploy = gate()
    bad = new("b", Stage.PROBING_REDIS, failure=BAD_PASSWORD, failures_in_row=1)
    assert deploy.decide([new("a"), bad], 0.0) is PERMANENT
    assert deploy.standing.waits_for == ("b: probing_redis: the password is wrong",)


def test_a_failure_of_before_is_none() -> None:
    deploy = gate()
    fine = new("b", Stage.GRACE, failure=BAD_PASSWORD, failures_in_row=0)
    assert deploy.decide([new("a"), fine], 0.0) is None


def test_one_whose_budget_is_spent_fails_it_at_once() -> None:
    deploy = gate()
    assert deploy.decide([new("a"), new("b", Stage.DEGRADED)], 0.0) is FAILED


def test_so_many_as_are_allowed_may_fail() -> None:
    deploy = gate(1, allow_degraded=1)
    fleet = [new("a"), new("b", Stage.DEGRADED)]
    assert deploy.decide(fleet, 0.0) is None
    assert deploy.decide(fleet, 10.0) is PASSED
    assert gate(1, allow_degraded=1).decide([*fleet, new("c", Stage.DEGRADED)], 0.0) is FAILED


def test_one_that_was_ready_and_has_an_outage_is_waited_for() -> None:
    deploy = gate(1)
    fallen = new("a", Stage.DEGRADED)
    object.__setattr__(fallen.state.entry, "previous", Stage.READY)
    assert deploy.decide([fallen], 0.0) is None


def test_one_that_was_ready_and_falls_again_while_it_comes_back_is_waited_for() -> None:
    deploy = gate(1)
    for previous, stage in ((Stage.GRACE, Stage.READY), (Stage.GRACE, Stage.DEGRADED)):
        flapping = new("a", stage)
        object.__setattr__(flapping.state.entry, "previous", previous)
        assert deploy.decide([flapping], 0.0) is None
    other = new("b", Stage.DEGRADED)
    assert deploy.decide([flapping, other], 1.0) is FAILED


def test_one_that_died_is_waited_for_since_another_one_may_take_its_place() -> None:
    deploy = gate(1)
    dead = new("a", Stage.DEGRADED, presence=SILENT)
    assert deploy.decide([dead], 0.0) is None
    assert deploy.standing.waits_for == ("a: silent; it was degraded",)


def test_one_that_died_is_not_named_once_another_one_has_its_name() -> None:
    deploy = gate(1)
    dead = new("a", presence=SILENT)
    object.__setattr__(dead.state.entry, "incarnation", "a.7766554433221100")
    deploy.decide([dead, new("a")], 0.0)
    assert deploy.standing.waits_for == ()


def test_what_is_old_and_still_there_is_named() -> None:
    deploy = gate()
    old = [instance(f"old-{number}", version="1") for number in range(7)]
    gone = instance("gone", version="0", presence=LEFT)
    deploy.decide([*old, gone, new("a")], 0.0)
    assert deploy.standing.old == ("1: old-0, old-1, old-2, old-3, old-4 and 2 more",)


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 4.0),
            st.sampled_from([Stage.READY, Stage.GRACE]),
            st.sampled_from([ALIVE, UNKNOWN, SILENT]),
        ),
        max_size=30,
    )
)
def test_it_never_passes_unless_it_was_ready_at_every_look_of_the_whole_time(
    looks: list[tuple[float, Stage, PresenceVerdict]],
) -> None:
    deploy, at, ready_since = gate(1), 0.0, None
    for seconds, stage, presence in looks:
        at += seconds
        well = stage is Stage.READY and presence is ALIVE
        ready_since = (at if ready_since is None else ready_since) if well else None
        passed = deploy.decide([new("a", stage, presence=presence)], at) is PASSED
        assert passed == (ready_since is not None and at - ready_since >= 10.0)


# -- until it decides -----------------------------------------------------------------------------


class Followed:
    """A fleet that changes at times that a test says."""

    def __init__(self, script: Mapping[float, list[Instance] | Failure]) -> None:
        self.instances: Mapping[str, Instance] = {}
        self.failure: Failure | None = None
        self.reached: bool | None = None
        self.was_reached = False
        self.known_at = 0.0
        self._at = 0.0
        self._script = dict(sorted(script.items()))
        self.frozen_at = float("inf")

    @property
    def is_hopeless(self) -> bool:
        return self.failure is FORBIDDEN

    def now(self) -> float:
        return self._at

    def news(self, timeout_seconds: float) -> list[FleetNews]:
        due = min(self._script, default=float("inf"))
        self._at = min(self._at + timeout_seconds, max(due, self._at))
        news: list[FleetNews] = []
        if due <= self._at:
            told = self._script.pop(due)
            before, self.reached = self.reached, not isinstance(told, Failure)
            self.failure = told if isinstance(told, Failure) else None
            if isinstance(told, list):
                self.instances = {one.incarnation: one for one in told}
                self.was_reached = True
            if before is not self.reached:
                news.append(Contact(self.reached, ""))
        if self.reached:
            self.known_at = min(self._at, self.frozen_at)
        return news


def ran(
    script: Mapping[float, list[Instance] | Failure],
    wanted: int = 2,
    frozen_at: float = float("inf"),
) -> tuple[GateResult, list[str]]:
    followed, lines = Followed(script), list[str]()
    followed.frozen_at = frozen_at
    result = run_gate(followed, gate(wanted), timeout_seconds=60.0, progress=lines.append)
    return result, lines


def test_it_ends_as_soon_as_it_can() -> None:
    result, lines = ran({1.0: [new("a")], 3.0: [new("a"), new("b")]})
    assert (result.outcome, result.status) == (PASSED, 0)
    assert 13.0 <= result.elapsed_seconds <= 14.0
    assert lines[-1] == "2 of 2 instances of 2 are ready"


def test_redis_that_was_away_makes_the_time_begin_anew() -> None:
    both = [new("a"), new("b")]
    result, lines = ran({0.0: both, 8.0: AWAY, 9.0: both})
    assert result.outcome is PASSED
    assert 19.0 <= result.elapsed_seconds <= 20.0
    assert "redis: nothing listens there; trying again" in lines


def test_it_never_passes_while_redis_is_away() -> None:
    result, _ = ran({0.0: [new("a"), new("b")], 8.0: AWAY})
    assert (result.outcome, result.status) == (TIMED_OUT, 124)
    assert "redis: nothing listens there: the last known is old" in result.lines


def test_it_never_passes_on_what_a_redis_said_that_hangs_since_then() -> None:
    result, _ = ran({0.0: [new("a"), new("b")]}, frozen_at=9.0)
    assert result.outcome is TIMED_OUT


def test_a_redis_that_never_answered_is_not_an_instance_that_is_late() -> None:
    result, _ = ran({0.0: AWAY})
    assert (result.outcome, result.status) == (UNREACHABLE, 2)
    assert result.lines == ["redis: nothing listens there"]


def test_a_redis_that_can_not_be_asked_ends_it_at_once() -> None:
    result, _ = ran({0.0: [new("a")], 5.0: FORBIDDEN})
    assert (result.outcome, result.status, result.elapsed_seconds) == (UNREACHABLE, 2, 5.0)


def test_the_time_that_is_up_names_what_each_waits_for() -> None:
    late = new("b", Stage.PROBING_REDIS, waits_for=("Redis to answer",))
    result, _ = ran({0.0: [new("a"), late, instance("old", version="1")]})
    assert (result.outcome, result.status) == (TIMED_OUT, 124)
    assert result.lines == [
        "the time is up after 60.0 s: 1 of 2 instances of 2 are ready",
        "b: probing_redis: Redis to answer",
        "still there: 1: old",
    ]


def test_a_version_that_was_never_seen_is_said() -> None:
    result, _ = ran({0.0: [instance("old", version="1")]})
    assert "no instance of 2 was ever seen: is the version right?" in result.lines
    assert result.as_json()["was_seen"] is False


def test_a_permanent_failure_and_a_spent_budget_have_statuses_of_their_own() -> None:
    bad = new("b", Stage.DEGRADED, failure=BAD_PASSWORD, failures_in_row=1)
    assert ran({0.0: [bad]})[0].status == 78
    assert ran({0.0: [new("b", Stage.DEGRADED)]})[0].status == 1
