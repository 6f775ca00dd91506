"""When those who are refused come back: drawn while they are few, then one after the other."""

from collections import Counter
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import Orchestrator
from orchestrator._gate.face import sees_headers
from orchestrator._gate.return_line import MOST_SECONDS, AdmissionRate, ReturnLine
from orchestrator._http.asgi_types import Scope
from orchestrator.asgi import ReadinessGate
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe
from orchestrator.wsgi import ReadinessGate as WSGIGate
from tests.asgi.gate_support import App, Caller, Startup, http_scope, settled, websocket_scope
from tests.gate.virtual_crowd import Crowd, assert_lost_none
from tests.herd.clients import SetClock, in_line, simulate, within


def measured(per_second: float, seconds: float = 5.0) -> AdmissionRate:
    rate = AdmissionRate()
    for _ in range(round(seconds / 0.05)):
        rate.count(round(per_second * 0.05), 0.05)
    return rate


def line_of(rate: AdmissionRate, seed: int = 1) -> tuple[ReturnLine, SetClock]:
    clock = SetClock()
    return ReturnLine(rate, clock.now, Random(seed)), clock


# -- the rate --------------------------------------------------------------------------------------


def test_the_rate_is_what_was_let_in_while_others_waited() -> None:
    assert measured(200).per_second == pytest.approx(200)


def test_a_rate_that_was_seen_for_a_moment_only_is_not_known() -> None:
    assert measured(20, seconds=0.4).per_second == AdmissionRate().per_second


def test_an_old_rate_is_forgotten() -> None:
    rate = measured(1000, seconds=60)
    for _ in range(600):
        rate.count(2, 0.05)
    assert rate.per_second == pytest.approx(40, rel=0.1)


def test_a_machine_that_stood_still_does_not_spoil_the_rate() -> None:
    rate = measured(200)
    rate.count(0, 3600.0)
    assert rate.per_second > 100


def test_where_nobody_is_let_in_at_all_the_line_still_moves() -> None:
    assert measured(0).per_second == 1


# -- the line --------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), count=st.integers(1, 1000))
def test_a_few_get_what_the_option_says_as_if_there_were_no_line(seed: int, count: int) -> None:
    line, _ = line_of(AdmissionRate(), seed)
    drawn = Random(seed)
    assert [line.seconds(1, 3) for _ in range(count)] == [drawn.randint(1, 3) for _ in range(count)]


@given(
    per_second=st.sampled_from([20, 100, 1000]),
    steps=st.lists(st.tuples(st.integers(1, 400), st.floats(0.0, 5.0)), max_size=30),
    seed=st.integers(0, 2**32),
)
def test_no_more_are_asked_for_one_second_than_can_be_let_in(
    per_second: int, steps: list[tuple[int, float]], seed: int
) -> None:
    line, clock = line_of(measured(per_second), seed)
    back: Counter[int] = Counter()
    for count, pause in steps:
        for _ in range(count):
            seconds = line.seconds(1, 3)
            assert 1 <= seconds <= MOST_SECONDS
            if 3 < seconds < MOST_SECONDS:
                back[int(clock.at) + seconds] += 1
        clock.at += int(pause)
    whole_line = sum(count for count, _ in steps) > 0.8 * per_second * (MOST_SECONDS - 60)
    assert whole_line or all(count <= 0.8 * per_second + 1 for count in back.values())


def test_nobody_is_asked_to_wait_for_longer_than_five_minutes() -> None:
    line, _ = line_of(measured(20))
    seconds = [line.seconds(1, 3) for _ in range(20_000)]
    assert max(seconds) <= MOST_SECONDS
    late = seconds[10_000:]
    assert min(late) < 30, "those beyond the line are anywhere in it"
    assert max(Counter(late).values()) < 100


def test_an_option_beyond_the_line_stays_as_it_is() -> None:
    line, _ = line_of(measured(20))
    assert all(400 <= line.seconds(400, 500) <= 500 for _ in range(10_000))


# -- clients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "per_second", "times"), [(1000, 1000.0, 4.0), (5000, 500.0, 1.5), (1000, 50.0, 1.2)]
)
def test_a_crowd_is_let_in_about_as_fast_as_it_can_be(
    size: int, per_second: float, times: float
) -> None:
    ideal = 0.99 * size / per_second
    assert simulate(size, per_second, in_line).within(0.99) <= times * ideal


def test_without_a_line_a_large_crowd_is_never_let_in() -> None:
    crowd = simulate(5000, 500.0, within(1, 3), most_seconds=60.0)
    assert crowd.within(0.5) == float("inf")
    assert crowd.refusals_each > 20


# -- the gates -------------------------------------------------------------------------------------


def slow_down(gate: ReadinessGate, per_second: float) -> None:
    """Let the gate have measured this."""
    for _ in range(5):
        gate._admission.turnstile.rate.count(round(per_second), 1.0)


async def refusals(gate: ReadinessGate, scope: Scope, count: int) -> list[int]:
    callers = [Caller(gate, scope) for _ in range(count)]
    for caller in callers:
        await caller.run()
    assert all(caller.status == 503 for caller in callers)
    return [int(caller.headers["retry-after"]) for caller in callers]


@pytest.mark.anyio
@pytest.mark.parametrize("scope", [http_scope("/chat"), websocket_scope()])
async def test_a_crowd_at_a_gate_stands_in_line_and_a_few_do_not(scope: Scope) -> None:
    async with Startup() as startup:
        gate = ReadinessGate(App(), startup, max_held=0, clock=ManualClock())
        assert set(await refusals(gate, scope, 100)) == {1, 2, 3}
        slow_down(gate, 10)
        seconds = await refusals(gate, scope, 80)
        assert max(seconds) == 11, "80 places of 0.125 s, after the few before them"
        assert seconds[40:] == sorted(seconds[40:])


@pytest.mark.anyio
async def test_a_page_takes_no_place_since_it_cannot_see_when_to_come_back() -> None:
    page = {**websocket_scope(), "headers": [(b"origin", b"https://chat.example")]}
    async with Startup() as startup:
        gate = ReadinessGate(App(), startup, max_held=0, clock=ManualClock())
        slow_down(gate, 10)
        assert set(await refusals(gate, page, 100)) == {1, 2, 3}
        assert set(await refusals(gate, http_scope("/chat"), 5)) <= {1, 2, 3}


def test_pages_are_known_by_their_origin() -> None:
    websocket = {"Upgrade": "websocket"}
    assert sees_headers(websocket)
    assert sees_headers({"Origin": "https://chat.example"})
    assert not sees_headers({**websocket, "Origin": "https://chat.example"})


@pytest.mark.anyio
async def test_who_should_go_elsewhere_has_no_place() -> None:
    async with Startup() as startup:
        gate = ReadinessGate(App(), startup, clock=ManualClock())
        slow_down(gate, 10)
        gate.stop()
        assert set(await refusals(gate, http_scope("/chat"), 100)) == {1, 2, 3}


@pytest.mark.anyio
async def test_the_release_lasts_until_the_last_place_has_come_and_loses_nobody() -> None:
    crowd = Crowd(slots=4, work_seconds=0.02, max_held=8)
    async with crowd.running() as startup:
        slow_down(crowd.gate, 2)
        for _ in range(40):
            crowd.arrive("/accept_receive_work", 2)
            await settled()
        startup.make_ready()
        await crowd.clock.advance(15.0)
        assert crowd.gate._admission.turnstile.young, "some are still away, and come back early"
        await crowd.serve_all()
        assert_lost_none(crowd)
        assert crowd.pool.most_used <= 4
        await crowd.clock.advance(30.0)
        assert not crowd.gate._admission.turnstile.young


@pytest.mark.anyio
async def test_the_rate_is_measured_while_others_wait_and_kept_for_the_next_outage() -> None:
    crowd = Crowd(slots=2, work_seconds=0.1, max_held=100)
    async with crowd.running() as startup:
        for _ in range(60):
            crowd.arrive("/get")
            await settled()
        startup.make_ready()
        await crowd.serve_all()
        assert crowd.gate._admission.turnstile.rate.per_second == pytest.approx(20, rel=0.25)


def test_a_wsgi_gate_has_a_line_too() -> None:
    startup = Orchestrator(ScriptedProbe([REFUSED]))
    gate = WSGIGate(lambda _, __: [], startup, max_held=0, run_in_thread=False)
    found: list[int] = []

    def answer(status: str, headers: list[tuple[str, str]]) -> None:
        assert status.startswith("503")
        found.append(int(dict(headers)["Retry-After"]))

    environ: dict[str, Any] = {"PATH_INFO": "/", "REQUEST_METHOD": "GET"}
    for _ in range(3000):
        gate(environ, answer)
    assert set(found[:500]) == {1, 2, 3}
    assert max(found) > 5
