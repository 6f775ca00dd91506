"""A large fleet asks less often, each instance, and never together."""

import logging
import statistics
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import Check, Observer, Orchestrator, Policy, Stage
from orchestrator._probing.fleet_step import ALONE, MOST_STEP_SECONDS, FleetSize, FleetStep
from orchestrator._probing.pacing import Pacer
from orchestrator.redis import RedisProbe
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe
from states import BootFinished, Failure, FailureKind, ProbeFailed, ProbeSucceeded, StartupMachine

CROWDED = Failure(FailureKind.TRANSIENT, "TimeoutError", "too busy", congestion=True)
POLICY = Policy(budget_seconds=1000)
SIZES = st.integers(1, 300_000)
KINDS = st.lists(st.sampled_from([REFUSED, CROWDED, None]), max_size=40)


def fleet(size: int, per_second: float = 2000.0) -> FleetStep:
    return FleetStep(lambda: size, per_second)


def delays(
    outcomes: list[Failure | None], random: Random, step: FleetStep, policy: Policy = POLICY
) -> list[tuple[Stage, float]]:
    """The stage and the delay after each of these attempts; `None` is one that succeeds."""
    machine, pacer = StartupMachine(policy), Pacer(policy, random, step)
    machine.receive(BootFinished(0.0))
    at, found = 0.0, []
    for failure in outcomes:
        machine.receive(ProbeFailed(at, 0.0, failure) if failure else ProbeSucceeded(at, 0.0))
        seconds = pacer.delay_seconds(machine.snapshot)
        found.append((machine.stage, seconds))
        at += seconds
    return found


# -- the pace --------------------------------------------------------------------------------------


@given(outcomes=KINDS, seed=st.integers(0, 2**32), per_second=st.floats(0.001, 1e6))
def test_one_that_is_alone_asks_as_if_there_were_no_fleets(
    outcomes: list[Failure | None], seed: int, per_second: float
) -> None:
    alone = delays(outcomes, Random(seed), ALONE)
    assert delays(outcomes, Random(seed), fleet(1, per_second)) == alone


def test_the_pace_of_one_that_is_alone_is_the_one_that_it_always_was() -> None:
    outcomes = [*[REFUSED] * 7, *[CROWDED] * 2, None, *[REFUSED] * 4]
    found = [round(seconds, 4) for _, seconds in delays(outcomes, Random(1), ALONE)]
    assert found == [
        *(0.0117, 0.0231, 0.0418, 0.0877, 0.1683, 0.1752, 0.1798),
        *(0.0319, 0.0193, 5.3358),
        *(0.0142, 0.0243, 0.0534, 0.1128),
    ]


@given(size=SIZES, seed=st.integers(0, 2**32))
def test_small_fleets_draw_the_same_numbers_until_their_step_counts(size: int, seed: int) -> None:
    outcomes: list[Failure | None] = [REFUSED] * 12
    found = delays(outcomes, Random(seed), fleet(size))
    alone = delays(outcomes, Random(seed), ALONE)
    if fleet(size).seconds() < POLICY.retry_first_seconds * (1 - POLICY.retry_jitter):
        assert found == alone
    else:
        longest = max(fleet(size).seconds(), POLICY.retry_cap_seconds)
        assert all(seconds <= longest * (1 + POLICY.retry_jitter) for _, seconds in found)


@given(size=SIZES, before=st.integers(0, 3), seed=st.integers(0, 2**32))
def test_after_the_first_step_refusals_are_asked_again_at_the_fleets_step_or_slower(
    size: int, before: int, seed: int
) -> None:
    found = delays([*[None] * before, *[REFUSED] * 30], Random(seed), fleet(size))[before:]
    step = fleet(size).seconds()
    down = [seconds for stage, seconds in found if stage is not Stage.READY]
    confirming = [seconds for stage, seconds in found if stage is Stage.READY]
    assert all(seconds <= POLICY.confirm_interval_seconds * 1.1 for seconds in confirming)
    assert down[0] <= max(step, POLICY.retry_steady_seconds * 1.1)
    below = [seconds for seconds in down if seconds < step * (1 - POLICY.retry_jitter)]
    assert len(below) <= 1, "only the random part is shorter"


@given(outcomes=KINDS, size=SIZES, seed=st.integers(0, 2**32))
def test_no_fleet_makes_a_step_longer_than_it_says(
    outcomes: list[Failure | None], size: int, seed: int
) -> None:
    step = fleet(size).seconds()
    assert step <= MOST_STEP_SECONDS
    for failure, (_, seconds) in zip(
        outcomes, delays(outcomes, Random(seed), fleet(size)), strict=True
    ):
        cap = max(step, POLICY.retry_cap_seconds) * (1 + POLICY.retry_jitter)
        if failure is CROWDED:
            cap = max(8 * step, POLICY.congestion_cap_seconds)
        if failure is None:
            cap = POLICY.probe_interval_seconds * (1 + POLICY.retry_jitter)
        assert 0 <= seconds <= cap


@pytest.mark.parametrize("was_ready", [True, False])
def test_ten_thousand_that_lose_redis_together_knock_evenly_from_the_first_step_on(
    was_ready: bool,
) -> None:
    # In steps of 6.25 s, 1,600 knocks a second; sampled by each tenth instance.
    step = fleet(10_000).seconds()
    knocks: list[float] = []
    for seed in range(1000):
        at = 0.0
        outcomes: list[Failure | None] = [*[None] * was_ready, *[REFUSED] * 12]
        for stage, seconds in delays(outcomes, Random(seed), fleet(10_000))[was_ready:]:
            at += seconds
            if stage is not Stage.READY:
                knocks.append(at)
    by_second = [sum(second <= at < second + 1 for at in knocks) * 10 for second in range(1, 19)]
    assert statistics.mean(by_second) == pytest.approx(10_000 / step, rel=0.1)
    assert max(by_second) < 2000, "what one core does with TLS"


@pytest.mark.parametrize("failures", [1, 3])
def test_the_first_step_after_a_loss_is_a_random_part_of_it(failures: int) -> None:
    first = sorted(delays([REFUSED] * 9, Random(seed), fleet(3200))[0][1] for seed in range(1000))
    assert first[0] < 0.01
    assert first[-1] > 1.99
    assert statistics.mean(first) == pytest.approx(1.0, rel=0.1)
    assert max(b - a for a, b in pairwise(first)) < 0.03


def test_congestion_works_on_the_fleets_step() -> None:
    first = [delays([CROWDED], Random(seed), fleet(3200))[0][1] for seed in range(1000)]
    assert statistics.mean(first) == pytest.approx(2.0, rel=0.1)
    assert max(first) > 3.9
    later = [delays([CROWDED] * 9, Random(seed), fleet(3200))[-1][1] for seed in range(1000)]
    assert statistics.mean(later) == pytest.approx(8.0, rel=0.1)


# -- who says how many there are -------------------------------------------------------------------


class Knows(Observer):
    def __init__(self, said: object) -> None:
        self.said = said

    @property
    def fleet_size(self) -> object:
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said


@pytest.mark.parametrize(
    ("said", "size"),
    [
        (5, 5),
        (1, 3),
        (None, 3),
        (0, 3),
        (-7, 3),
        (True, 3),
        ("4000", 3),
        (4.5e9, 3),
        (10**400, 10**400),
        (RuntimeError("a secret"), 3),
    ],
)
def test_whatever_an_observer_says_of_the_fleet_is_no_harm(
    said: object, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    known = FleetSize(3, [Observer(), Knows(said)])
    with caplog.at_level(logging.ERROR):
        assert [known(), known()] == [size, size]
    assert FleetStep(known, 2000.0).seconds() <= MOST_STEP_SECONDS
    assert len(caplog.records) <= 1


def test_the_largest_that_is_said_counts_and_may_change() -> None:
    one, other = Knows(None), Knows(20)
    known = FleetSize(1, [one, other])
    assert known() == 20
    one.said = 4000
    assert known() == 4000
    one.said = None
    assert known() == 20


def test_a_redis_with_tls_is_taken_to_accept_fewer() -> None:
    assert RedisProbe("redis://localhost").connects_per_second == 8000
    assert RedisProbe("rediss://localhost").connects_per_second == 2000


# -- the orchestrator ------------------------------------------------------------------------------


async def attempts_in(
    seconds: float, *, policy: Policy = POLICY, size: int | None = None, seed: int = 1
) -> int:
    clock = ManualClock()
    probe = ScriptedProbe([REFUSED], clock=clock)
    startup = Orchestrator(
        probe, policy=policy, observers=[Knows(size)], clock=clock, random=Random(seed)
    )
    async with startup:
        await clock.advance(seconds)
    return probe.attempts


@pytest.mark.anyio
async def test_the_orchestrator_asks_its_observers_how_large_the_fleet_is() -> None:
    assert await attempts_in(20.0) > 80
    assert await attempts_in(20.0, size=12_800) in range(9, 14), "a step of 2 s"


@pytest.mark.anyio
async def test_the_policy_says_it_too() -> None:
    assert await attempts_in(20.0, policy=Policy(budget_seconds=99, fleet_size=12_800)) < 14
    slow = Policy(budget_seconds=99, fleet_size=100, connects_per_second=62.5)
    assert await attempts_in(20.0, policy=slow) < 14


@pytest.mark.anyio
async def test_a_check_keeps_the_fleets_pace_too() -> None:
    clock = ManualClock()
    probe = ScriptedProbe([REFUSED], clock=clock)
    startup = Orchestrator(
        ScriptedProbe([None], clock=clock),
        conditions=[Check("database", probe)],
        observers=[Knows(12_800)],
        clock=clock,
    )
    async with startup:
        await clock.advance(20.0)
    assert probe.attempts < 14


@pytest.mark.anyio
async def test_a_fleet_whose_connections_are_closed_at_once_does_not_connect_at_once() -> None:
    waits = []
    for seed in range(12):
        clock = ManualClock()
        probe = ScriptedProbe([None], clock=clock)
        startup = Orchestrator(
            probe,
            policy=Policy(fleet_size=4000, connects_per_second=5000),
            clock=clock,
            random=Random(seed),
        )
        async with startup:
            await clock.advance(0.2)
            before = probe.attempts
            probe.then(None)  # which the orchestrator notices, as it notices a closed connection
            closed_at = clock.now()
            while probe.attempts == before:
                await clock.advance(0.05)
            waits.append(clock.now() - closed_at)
    assert max(waits) <= 1.05, "no loss is noticed later than that of a silent server"
    assert statistics.mean(waits) == pytest.approx(0.5, abs=0.2)


@pytest.mark.anyio
async def test_one_that_is_alone_connects_again_at_once() -> None:
    clock = ManualClock()
    probe = ScriptedProbe([None], clock=clock)
    async with Orchestrator(probe, clock=clock):
        await clock.advance(0.2)
        before = probe.attempts
        probe.then(None)
        await clock.advance(0.0)
        assert probe.attempts == before + 1
