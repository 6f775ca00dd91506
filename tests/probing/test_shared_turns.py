"""When steady checks are asked: several at once, and never later than their interval."""

from collections import Counter
from itertools import pairwise
from random import Random

import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import Check, Orchestrator, Policy, ProbeResult, Stage
from orchestrator._ports import Probe
from orchestrator._probing.shared_turns import SharedTurns
from orchestrator.testing import ManualClock, ScriptedProbe

SECONDS = st.floats(0.01, 3600, allow_nan=False)


@given(st.integers(), SECONDS, st.floats(0, 0.5), st.lists(SECONDS, max_size=20), st.data())
def test_no_answer_gets_older_than_the_interval(
    seed: int, interval: float, share: float, took: list[float], data: st.DataObject
) -> None:
    turns = SharedTurns(Random(seed)).every(interval, share)
    at = data.draw(st.floats(0, 1e9))
    for number, seconds in enumerate(took):
        again = turns.after(at)
        assert again <= at + interval + 1e-6
        if number:
            assert again >= at + interval * (1 - share) - 1e-6, "but for the first, none is early"
        at = again + seconds


@given(st.integers(), st.integers(2, 60))
def test_a_hundred_checks_share_at_most_ten_moments(seed: int, interval: int) -> None:
    shared = SharedTurns(Random(seed))
    checks = [shared.every(interval, 0.1) for _ in range(100)]
    moments = Counter(turns.after(turns.after(100.0) + 0.001) for turns in checks)
    assert len(moments) <= 10
    assert max(moments.values()) < 60, "nor are all asked at once"


def test_what_falls_together_stays_together() -> None:
    shared = SharedTurns(Random(3))
    one, other = shared.every(15.0, 0.1), shared.every(15.0, 0.1)
    at = max(one.after(0.0), other.after(0.0))
    for _ in range(50):
        next_of_one, next_of_other = one.after(at + 0.002), other.after(at + 0.004)
        assert next_of_one == next_of_other
        at = next_of_one


def test_instances_that_lost_a_server_together_come_back_spread_over_the_interval() -> None:
    first = sorted(SharedTurns(Random(n)).every(15.0, 0.1).after(100.0) for n in range(300))
    assert first[0] < 101
    assert first[-1] > 114
    assert max(later - sooner for sooner, later in pairwise(first)) < 1.0


class Noting(Probe):
    """Answers, and notes when it was asked."""

    def __init__(self, clock: ManualClock, asked: list[float]) -> None:
        self._clock, self._asked = clock, asked

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        self._asked.append(self._clock.now())
        await anyio.lowlevel.checkpoint()
        return ProbeResult(0.0)


@pytest.mark.anyio
async def test_the_checks_of_a_start_up_are_asked_in_groups_once_they_are_steady() -> None:
    clock, asked = ManualClock(), list[float]()
    checks = [
        Check(f"check {n}", Noting(clock, asked), interval_seconds=15 if n % 2 else 10)
        for n in range(20)
    ]
    startup = Orchestrator(
        ScriptedProbe(), conditions=checks, clock=clock, policy=Policy(grace_seconds=0)
    )
    async with startup:
        await clock.advance(40)
        assert startup.stage is Stage.READY
        asked.clear()
        await clock.advance(30)
    assert 10 * 2 + 10 * 3 <= len(asked) <= 10 * 2 + 10 * 4
    assert len(set(asked)) <= 30, "50 attempts, of which several share a moment"
