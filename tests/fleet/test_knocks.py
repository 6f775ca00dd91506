"""When the publisher asks Redis, and what it makes of an event loop: pure, in made-up time."""

import math
from collections.abc import Callable
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from orchestrator._probing.fleet_step import ALONE, FleetStep
from orchestrator.fleet._knock_pace import KnockPace
from orchestrator.fleet._loop_watch import LoopWatch
from states import Failure, FailureKind, Policy

REFUSED = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "nothing listens there")
FULL = Failure(FailureKind.TRANSIENT, "OOM", "no memory", congestion=True)
FORBIDDEN = Failure(FailureKind.PERMANENT, "NOPERM", "forbidden")
POLICY = Policy()


def pace(step: FleetStep = ALONE, *, follows_probe: bool = True, seed: int = 1) -> KnockPace:
    return KnockPace(POLICY, step, follows_probe=follows_probe, random=Random(seed))


def test_it_waits_for_the_probe() -> None:
    one = pace()
    waited = [one.waits_for_probe]
    one.see_probe(5.0, answers=True)
    waited.append(one.waits_for_probe)
    assert 5.0 <= one.next_at <= 5.0 + POLICY.retry_steady_seconds
    one.see_probe(6.0, answers=False)
    waited.append(one.waits_for_probe)
    assert waited == [True, False, True]


def test_a_redis_of_its_own_is_asked_whatever_the_probe_says() -> None:
    one = pace(follows_probe=False)
    one.see_probe(5.0, answers=False)
    assert not one.waits_for_probe
    assert one.next_at == -math.inf


@given(st.integers(0, 10_000))
def test_a_large_fleet_comes_back_spread_over_its_step(seed: int) -> None:
    one = pace(FleetStep(lambda: 10_000, 2000.0), seed=seed)
    one.see_probe(100.0, answers=True)
    assert 100.0 <= one.next_at <= 100.0 + 10_000 / 1600


def test_the_spread_is_even() -> None:
    firsts = []
    for seed in range(200):
        one = pace(FleetStep(lambda: 1600, 2000.0), seed=seed)
        one.see_probe(0.0, answers=True)
        firsts.append(one.next_at)
    assert all(any(n / 10 <= first < (n + 1) / 10 for first in firsts) for n in range(10))


def test_further_answers_of_the_probe_do_not_put_it_off() -> None:
    one = pace()
    one.see_probe(5.0, answers=True)
    before = one.next_at
    one.see_probe(5.01, answers=True)
    assert one.next_at == before


@given(st.integers(1, 40), st.integers(0, 1000))
def test_what_waiting_helps_against_is_tried_ever_more_rarely(failures: int, seed: int) -> None:
    for failure in (REFUSED, FULL):
        one = pace(follows_probe=False, seed=seed)
        for _ in range(failures):
            one.failed(10.0, failure)
        assert one.in_row == failures
        assert (
            10.0
            <= one.next_at
            <= 10.0 + max(POLICY.retry_cap_seconds, POLICY.congestion_cap_seconds) * 1.5
        )
        one.succeeded()
        assert (one.in_row, one.next_at) == (0, -math.inf)


def test_a_thousand_instances_do_not_ask_a_full_redis_all_the_time() -> None:
    one = pace(follows_probe=False)
    now, asked = 0.0, 0
    while now < 60.0:
        one.failed(now, FULL)
        asked, now = asked + 1, max(one.next_at, now + 0.001)
    assert asked < 40


def test_what_waiting_does_not_help_against_is_tried_every_30_s() -> None:
    one = pace()
    one.failed(100.0, FORBIDDEN)
    assert 127.0 <= one.next_at <= 133.0


class Loop:
    """An event loop and the time, both moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.called: list[Callable[[], object]] = []
        self.closed = False
        self.watch = LoopWatch(self.call, lambda: self.now)

    def call(self, function: Callable[[], object]) -> None:
        if self.closed:
            raise RuntimeError
        self.called.append(function)

    def turn(self) -> None:
        for function in self.called:
            function()
        self.called.clear()

    def look_after(self, seconds: float) -> float | None:
        self.now += seconds
        return self.watch.stuck_seconds()


def test_a_loop_that_turns_is_not_stuck_and_one_that_does_not_is_after_5_s() -> None:
    loop = Loop()
    for _ in range(10):
        assert loop.look_after(2.0) is None
        loop.turn()
    assert loop.look_after(2.0) is None  # asked here
    assert loop.look_after(2.0) is None
    assert loop.look_after(2.0) is None
    assert loop.look_after(2.0) == 6.0
    assert loop.look_after(2.0) == 8.0
    loop.turn()
    assert loop.look_after(2.0) is None


def test_a_process_that_was_stopped_as_a_whole_is_not_stuck() -> None:
    loop = Loop()
    assert loop.look_after(2.0) is None
    assert loop.look_after(3600.0) is None  # SIGSTOP: the loop had no turn since
    assert loop.look_after(2.0) is None
    loop.turn()
    assert loop.look_after(2.0) is None


def test_the_end_of_the_loop_is_noticed_also_while_it_is_stuck() -> None:
    loop = Loop()
    loop.look_after(2.0)
    loop.closed = True
    loop.look_after(2.0)
    assert loop.watch.loop_has_ended
