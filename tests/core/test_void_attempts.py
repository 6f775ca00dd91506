"""Attempts that say nothing, since the process itself did not run: neither success nor failure."""

import anyio
import pytest

from orchestrator import Failure, FailureKind, Orchestrator, Policy, Probe, ProbeResult, Stage
from orchestrator.testing import ManualClock

pytestmark = pytest.mark.anyio

LATE = Failure(FailureKind.TRANSIENT, "TimeoutError", "no answer; the process was late")
OK, FAILED, VOID = ProbeResult(0.0), ProbeResult(0.1, LATE), ProbeResult(0.1, LATE, void=True)


class Told(Probe):
    """Gives what it is told to; the last of it for ever."""

    def __init__(self, *results: ProbeResult) -> None:
        self.results = list(results)
        self.attempts = 0

    async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
        await anyio.lowlevel.checkpoint()
        self.attempts += 1
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]


def stage(startup: Orchestrator) -> Stage:
    """The stage now; a type checker would take the property for a constant."""
    return startup.stage


async def test_a_void_attempt_counts_as_neither_and_is_repeated_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, probe = ManualClock(), Told(VOID, VOID, OK)
    async with Orchestrator(probe, clock=clock) as startup:
        await clock.advance(0)
        assert stage(startup) is Stage.READY
        assert probe.attempts == 3
        assert startup.explain().attempts == 1
        probe.results = [VOID, VOID, VOID, OK]
        await clock.advance(10)
        assert stage(startup) is Stage.READY
        assert startup.explain().last_failure is None
    assert caplog.text.count("does not count") == 1


async def test_a_void_attempt_does_not_forgive_the_failures_before_it() -> None:
    clock, probe = ManualClock(), Told(OK)
    async with Orchestrator(probe, policy=Policy(failures_to_degrade=2), clock=clock) as startup:
        await clock.advance(0)
        probe.results = [FAILED, VOID, FAILED, FAILED]
        await clock.advance(7)
        assert stage(startup) is Stage.DEGRADED


@pytest.mark.parametrize("void", [VOID, ProbeResult(0.0, void=True)])
async def test_a_redis_of_which_nothing_is_known_does_not_stay_ready_for_ever(
    void: ProbeResult,
) -> None:
    clock, probe = ManualClock(), Told(OK)
    async with Orchestrator(probe, clock=clock) as startup:
        await clock.advance(0)
        asked = probe.attempts
        probe.results = [void]
        await clock.advance(7)
        assert stage(startup) is Stage.DEGRADED
        assert startup.explain().last_failure is not None
        # Five were for nothing. From then on each counts, until one says something again.
        assert asked + 5 + 3 <= probe.attempts
        probe.results = [OK]
        await clock.advance(2)
        assert stage(startup) is Stage.READY


class Slow(Probe):
    """Keeps its own time: it returns three seconds after it should have."""

    overtime_seconds = 5.0

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        with self.clock.cancel_at(self.clock.now() + timeout_seconds + 3):
            await anyio.sleep_forever()
        return OK


async def test_a_probe_that_watches_its_own_time_is_not_cut_short() -> None:
    clock = ManualClock()
    async with Orchestrator(Slow(clock), clock=clock) as startup:
        await clock.advance(4.5)
        assert stage(startup) is Stage.READY
        assert startup.explain().last_failure is None
