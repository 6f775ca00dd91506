"""When the next attempt is made: the schedule in figures."""

import statistics
from itertools import pairwise
from random import Random

import pytest

from orchestrator._pacing import Pacer
from states import (
    BootFinished,
    Failure,
    FailureKind,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    StartupMachine,
)

REFUSED = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "refused")
CROWDED = Failure(FailureKind.TRANSIENT, "MaxClients", "too many clients", congestion=True)
WRONG = Failure(FailureKind.PERMANENT, "AuthenticationError", "wrong password")


def schedule(seed: int, failure: Failure, seconds: float) -> list[float]:
    """The times of all attempts in an outage of this length."""
    policy = Policy(budget_seconds=200)
    machine, pacer = StartupMachine(policy), Pacer(policy, Random(seed))
    machine.receive(BootFinished(0.0))
    now, times = 0.0, list[float]()
    while now < seconds:
        times.append(now)
        machine.receive(ProbeFailed(now, 0.0, failure))
        now += pacer.delay_seconds(machine.snapshot)
    return times


@pytest.mark.parametrize("seed", range(5))
def test_an_outage_of_five_seconds_takes_about_35_attempts(seed: int) -> None:
    times = schedule(seed, REFUSED, 5.0)
    assert 31 <= len(times) <= 42
    steps = [after - before for before, after in pairwise(times)]
    assert 0.009 <= steps[0] <= 0.022, "the ramp begins at 10 ms, shifted by a random phase"
    assert max(steps) <= 0.17 * 1.1 + 1e-9
    assert statistics.pstdev(steps[12:]) < 0.02, "then attempts are evenly spaced"


def test_steps_grow_with_the_outage_up_to_the_cap() -> None:
    times = schedule(1, REFUSED, 150.0)
    steps = [after - before for before, after in pairwise(times)]
    assert max(steps) <= 1.1
    at_30 = [step for time, step in zip(times, steps, strict=False) if 28 < time < 32]
    assert 0.2 < statistics.mean(at_30) < 0.3, "a 120th of the outage"


def test_instances_that_lose_redis_together_do_not_return_together() -> None:
    arrivals = sorted(min(t for t in schedule(seed, REFUSED, 5.0) if t > 2) for seed in range(200))
    assert arrivals[-1] - arrivals[0] > 0.15
    assert max(b - a for a, b in pairwise(arrivals)) < 0.03


def test_a_crowded_redis_is_left_alone_for_longer() -> None:
    assert len(schedule(1, CROWDED, 30.0)) < len(schedule(1, REFUSED, 30.0)) / 4


def test_a_permanent_failure_is_checked_again_every_30_seconds() -> None:
    times = schedule(1, WRONG, 100.0)
    assert all(27 <= b - a <= 33 for a, b in pairwise(times))


def test_a_failure_in_ready_is_confirmed_quickly() -> None:
    policy = Policy()
    machine, pacer = StartupMachine(policy), Pacer(policy, Random(1))
    machine.receive(BootFinished(0.0))
    machine.receive(ProbeSucceeded(0.0, 0.0))
    machine.receive(ProbeSucceeded(0.1, 0.0))
    assert 4.5 <= pacer.delay_seconds(machine.snapshot) <= 5.5
    machine.receive(ProbeFailed(5.0, 0.0, REFUSED))
    assert 0.09 <= pacer.delay_seconds(machine.snapshot) <= 0.11


def test_instances_that_lose_redis_while_ready_do_not_return_together_either() -> None:
    policy = Policy(retry_jitter=0)

    def steps(seed: int) -> list[float]:
        machine, pacer = StartupMachine(policy), Pacer(policy, Random(seed))
        for fact in (BootFinished(0.0), ProbeSucceeded(0.0, 0.0), ProbeSucceeded(0.1, 0.0)):
            machine.receive(fact)
        delays = []
        for attempt in range(6):
            machine.receive(ProbeFailed(1.0 + attempt, 0.0, REFUSED))
            delays.append(pacer.delay_seconds(machine.snapshot))
        return delays[3:]

    assert steps(1) != steps(2)
