"""When the next attempt is made: the schedule in figures."""

import statistics
from collections.abc import Iterable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator._probing.pacing import Pacer
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
CROWDED = Failure(FailureKind.TRANSIENT, "TimeoutError", "too busy", congestion=True)
FULL = Failure(FailureKind.TRANSIENT, "MaxClients", "too many clients", congestion=True)
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


def test_the_steepest_growth_overflows_nothing() -> None:
    policy = Policy(retry_growth=9e8, retry_first_seconds=0.001)
    machine, pacer = StartupMachine(policy), Pacer(policy, Random(1))
    machine.receive(BootFinished(0.0))
    for at in range(70):
        machine.receive(ProbeFailed(at / 100, 0.0, REFUSED))
        assert pacer.delay_seconds(machine.snapshot) <= policy.retry_cap_seconds * 1.2


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


@pytest.mark.parametrize("failure", [CROWDED, FULL])
def test_a_crowded_redis_is_left_alone_for_longer(failure: Failure) -> None:
    assert len(schedule(1, failure, 30.0)) < len(schedule(1, REFUSED, 30.0)) / 4


# -- congestion -----------------------------------------------------------------------------------

REFUSALS = st.integers(0, 300)
KINDS = st.lists(st.sampled_from([REFUSED, CROWDED, FULL, None]), max_size=40)


def delays(failures: Iterable[Failure | None], random: Random, policy: Policy) -> list[float]:
    """The delay after each of these attempts, one a second; `None` is one that succeeds."""
    machine, pacer = StartupMachine(policy), Pacer(policy, random)
    machine.receive(BootFinished(0.0))
    found = []
    for at, failure in enumerate(failures):
        fact = ProbeFailed(at, 0.0, failure) if failure else ProbeSucceeded(at, 0.0)
        machine.receive(fact)
        found.append(pacer.delay_seconds(machine.snapshot))
    return found


class Extreme(Random):
    """Draws the longest delays that can be."""

    def uniform(self, a: float, b: float) -> float:  # the longest
        return b

    def random(self) -> float:
        return 0.0


PLAIN = Policy(
    budget_seconds=1000, retry_jitter=0.0, congestion_cap_seconds=1000.0, failures_to_degrade=1
)


def test_congestion_doubles_the_step_for_each_further_one_and_no_more_than_six_times() -> None:
    found = delays([CROWDED] * 9, Extreme(), PLAIN)
    step = PLAIN.retry_steady_seconds
    assert found == pytest.approx([2 * step * 2**n for n in (0, 1, 2, 3, 4, 5, 5, 5, 5)])


@given(refusals=REFUSALS, crowded=st.integers(1, 12))
def test_a_long_outage_before_it_does_not_count_as_congestion(refusals: int, crowded: int) -> None:
    found = delays([REFUSED] * refusals + [CROWDED] * crowded, Extreme(), PLAIN)[refusals:]
    for number, delay in enumerate(found):
        # The step is the pace's own, which grows with the outage; it is doubled from here on only.
        outage = refusals + number
        share = min(outage * PLAIN.retry_outage_fraction, PLAIN.retry_cap_seconds)
        step = max(PLAIN.retry_steady_seconds, share)
        assert delay == pytest.approx(2 * step * 2 ** min(number, 5))


@given(before=KINDS, seed=st.integers(0, 2**32))
def test_only_congested_failures_in_a_row_lengthen_the_step(
    before: list[Failure | None], seed: int
) -> None:
    in_row = 0
    for failure in before:
        in_row = in_row + 1 if failure is CROWDED else 0
    found = delays([*before, CROWDED], Random(seed), PLAIN)[-1]
    longest = delays([*before, CROWDED], Extreme(), PLAIN)[-1]
    step = longest / 2 / 2 ** min(in_row, 5)
    assert PLAIN.retry_steady_seconds - 1e-9 <= step <= PLAIN.retry_cap_seconds
    assert 0 <= found <= longest
    # Whoever is refused again afterwards goes on at the even pace, as if there had been no crowd.
    after = delays([*before, CROWDED, REFUSED], Random(seed), PLAIN)[-1]
    assert after <= PLAIN.retry_cap_seconds


@given(failures=KINDS, seed=st.integers(0, 2**32))
def test_no_step_is_longer_than_what_the_policy_allows(
    failures: list[Failure | None], seed: int
) -> None:
    policy = Policy(budget_seconds=1000)
    for failure, delay in zip(failures, delays(failures, Random(seed), policy), strict=True):
        crowded = failure is CROWDED or failure is FULL
        cap = policy.congestion_cap_seconds if crowded else policy.retry_cap_seconds
        most = policy.probe_interval_seconds if failure is None else cap
        assert 0 <= delay <= most * (1.3 if failure is FULL else 1 + policy.retry_jitter)


def test_a_crowd_spreads_over_all_of_its_step() -> None:
    policy = Policy(budget_seconds=1000)
    drawn = sorted(delays([CROWDED], Random(seed), policy)[0] for seed in range(2000))
    assert statistics.mean(drawn) == pytest.approx(policy.retry_steady_seconds, rel=0.05)
    assert drawn[0] < 0.001
    assert drawn[-1] > 1.99 * policy.retry_steady_seconds
    assert max(b - a for a, b in pairwise(drawn)) < 0.004


def test_a_server_that_is_full_is_asked_evenly_and_slowly_less_often() -> None:
    policy = Policy(budget_seconds=1000)
    rows = [delays([FULL] * 60, Random(seed), policy) for seed in range(200)]
    averages = [statistics.mean(column) for column in zip(*rows, strict=True)]
    step = policy.retry_steady_seconds
    assert averages[0] == pytest.approx(step, rel=0.1)
    assert averages[10] == pytest.approx(step * 1.1**10, rel=0.1)
    assert averages[-1] == pytest.approx(policy.congestion_cap_seconds, rel=0.1)
    assert min(min(row) for row in rows) > 0.6 * step, "evenly: none asks again at once"


@given(before=KINDS)
def test_one_kind_of_congestion_does_not_count_for_the_other(
    before: list[Failure | None],
) -> None:
    step = PLAIN.retry_steady_seconds
    outage = len(before) * PLAIN.retry_outage_fraction
    full = delays([*before, CROWDED, FULL], Extreme(), PLAIN)[-1]
    assert full <= 1.3 * max(step, outage)
    late = delays([*before, FULL, CROWDED], Extreme(), PLAIN)[-1]
    assert late <= 2 * max(step, outage) + 1e-9


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
