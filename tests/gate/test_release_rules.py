"""The rules of a release, on their own: who is early and for how long, and when slots are added."""

import math
from collections.abc import Iterable
from itertools import repeat

from orchestrator._gate.release import Release
from orchestrator.testing import ManualClock

RETURN_SECONDS = 3.0
MINUTE = 60.0


class Clock(ManualClock):
    """One that is set by hand, and wakes no one."""

    at = 1000.0

    def now(self) -> float:
        return self.at


TICKS_PER_SECOND = 20


def ticks(release: Release, backlogs: Iterable[int], *, early_one_waits: bool = False) -> None:
    for backlog in backlogs:
        release.count_tick(backlog, lambda: early_one_waits)


def waiting(seconds: float, backlog: int = 50) -> Iterable[int]:
    """As many for all that time."""
    return repeat(backlog, round(seconds * TICKS_PER_SECOND))


def a_release() -> tuple[Release, Clock]:
    clock = Clock()
    return Release(2, clock, RETURN_SECONDS), clock


def early_for(release: Release, clock: Clock) -> float:
    """For how many seconds whoever comes from now on counts as early, to a tenth."""
    began_at = clock.at
    while release.is_early():
        clock.at += 0.1
        assert clock.at < began_at + 10 * MINUTE
    return clock.at - began_at


def test_those_who_were_refused_before_ready_are_early_for_as_long_as_they_may_return() -> None:
    release, clock = a_release()
    release.refused(30.0, is_open=False)
    assert math.isclose(early_for(release, clock), 31.0, abs_tol=0.2)


def test_nobody_is_early_for_longer_than_a_minute_however_late_they_were_asked_back() -> None:
    release, clock = a_release()
    release.refused(5 * MINUTE, is_open=False)
    assert math.isclose(early_for(release, clock), MINUTE, abs_tol=0.2)


def test_where_nobody_was_refused_only_the_usual_time_counts_as_early() -> None:
    release, clock = a_release()
    assert math.isclose(early_for(release, clock), RETURN_SECONDS + 1, abs_tol=0.2)


def test_a_crowd_that_stays_gets_a_quarter_more_slots_each_second_after_ten() -> None:
    release, _ = a_release()
    release.slots = release.least_slots = 8
    ticks(release, waiting(9))
    assert release.slots == 8
    ticks(release, waiting(3))
    assert release.slots > 8
    before = release.slots
    ticks(release, waiting(1))
    assert release.slots == before + before // 4


def test_a_crowd_that_becomes_smaller_gets_no_more_slots() -> None:
    release, _ = a_release()
    ticks(release, range(40 * TICKS_PER_SECOND, 0, -1))
    assert release.slots == release.least_slots


def test_while_an_early_client_waits_no_slots_are_added() -> None:
    release, _ = a_release()
    ticks(release, waiting(30), early_one_waits=True)
    assert release.slots == release.least_slots


def test_after_a_minute_a_crowd_that_becomes_smaller_gets_more_slots_too() -> None:
    release, _ = a_release()
    ticks(release, range(100 * TICKS_PER_SECOND, 0, -1))
    assert release.slots > release.least_slots


def test_a_failure_takes_slots_back_and_growth_begins_anew() -> None:
    release, _ = a_release()
    ticks(release, waiting(15))
    grown = release.slots
    release.failed()
    assert release.least_slots <= release.slots < grown
    shrunk = release.slots
    ticks(release, waiting(15))
    assert release.slots == shrunk  # it takes 10 s to make up for the failure, and 10 s as before


def test_after_a_minute_failures_take_nothing_back() -> None:
    release, _ = a_release()
    ticks(release, waiting(70))
    grown = release.slots
    release.failed()
    assert release.slots == grown > release.least_slots
