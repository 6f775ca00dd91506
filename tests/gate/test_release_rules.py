"""The rules of a release, on their own: who is early, and for how long."""

import math

from orchestrator._gate.release import Release
from orchestrator.testing import ManualClock

RETURN_SECONDS = 3.0
MINUTE = 60.0


class Clock(ManualClock):
    """One that is set by hand, and wakes no one."""

    at = 1000.0

    def now(self) -> float:
        return self.at


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
