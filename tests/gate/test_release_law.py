"""The law of release: while `ready` is young, no more handlers work than there are slots.

In virtual time, on both backends, whatever the handlers do, whenever clients come, leave and speak,
and however long the event loop stalls. The pool has as many connections as there are slots, so one
handler too many finds it empty, and its client is lost.
"""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.asgi.gate_support import settled
from tests.gate.release_shapes import HTTP_SHAPES, WEBSOCKET_SHAPES
from tests.gate.virtual_crowd import Crowd, assert_lost_none

pytestmark = pytest.mark.anyio

VIRTUAL = [path for path in (*WEBSOCKET_SHAPES, *HTTP_SHAPES) if path != "/gives_up_waiting"]
"""The shapes that need no time but the virtual."""


@pytest.mark.parametrize("path", VIRTUAL)
async def test_a_crowd_of_one_shape_is_served_and_nobody_finds_the_pool_empty(path: str) -> None:
    crowd = Crowd(slots=4, work_seconds=0.02, max_held=24)
    async with crowd.running() as startup:
        for _ in range(40):  # 24 are held, and 16 refused: they come back by `Retry-After`
            crowd.arrive(path, 2)
            await settled()
        assert crowd.gate.held == 24
        startup.make_ready()
        await crowd.serve_all()
    assert_lost_none(crowd)
    assert crowd.pool.most_used <= 4


@pytest.mark.parametrize(
    "path",
    [
        "/accept_receive_work",
        "/work_then_accept",
        "/get",
        "/reads_ahead",
        "/history_beside_reader",
        "/pushes_beside_reader",
        "/receives_in_tasks",
        "/broadcasts",
    ],
)
async def test_work_of_five_seconds_keeps_its_slot(path: str) -> None:
    crowd = Crowd(slots=4, work_seconds=5.0, max_held=24)
    async with crowd.running() as startup:
        for _ in range(12):
            crowd.arrive(path)
            await settled()
        startup.make_ready()
        await crowd.serve_all()
    assert_lost_none(crowd)


steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("arrive"),
            st.sampled_from([path for path in VIRTUAL if path != "/silent"]),
            st.integers(1, 3),
            st.booleans(),
        ),
        st.tuples(st.just("advance"), st.sampled_from([0.0, 0.02, 0.06, 0.3, 1.5])),
        st.tuples(st.just("jump"), st.sampled_from([0.04, 0.2, 1.5, 4.0])),
        st.tuples(st.just("leave"), st.integers(0, 40)),
    ),
    max_size=40,
)


# A stall in which refused clients were to come back: they come after it, and are early still.
AFTER_A_STALL = [
    ("arrive", "/accept_receive_work", 2, False),
    ("arrive", "/receives_in_tasks", 1, True),
    ("arrive", "/polls", 3, True),
    ("arrive", "/get", 3, True),
]


@example(
    before=AFTER_A_STALL,
    after=[*AFTER_A_STALL[:3], ("jump", 4.0), AFTER_A_STALL[3]],
    slots=1,
    work_seconds=0.03,
    max_held=1,
)
@example(  # one task pushes news while another is about to get the message that it has a slot for
    before=[],
    after=[
        ("jump", 0.2),
        ("arrive", "/push_only", 1, False),
        ("arrive", "/pushes_beside_reader", 3, False),
        ("arrive", "/work_then_accept", 1, False),
    ],
    slots=1,
    work_seconds=0.2,
    max_held=2,
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    before=steps,
    after=steps,
    slots=st.integers(1, 5),
    work_seconds=st.sampled_from([0.01, 0.03, 0.2]),
    max_held=st.integers(1, 20),
)
async def test_no_order_of_events_lets_one_handler_too_many_work(
    before: list[tuple[object, ...]],
    after: list[tuple[object, ...]],
    slots: int,
    work_seconds: float,
    max_held: int,
) -> None:
    crowd = Crowd(slots, work_seconds, max_held)
    async with crowd.running() as startup:
        for step in before:
            await take(crowd, step)
        startup.make_ready()
        for step in after:
            await take(crowd, step)
        await crowd.serve_all()
    assert_lost_none(crowd)


async def take(crowd: Crowd, step: tuple[object, ...]) -> None:
    match step:
        case ("arrive", str(path), int(messages), bool(at_once)):
            if crowd.releases:
                crowd.arrive(path, messages, at_once=at_once)
                await settled()
        case ("advance", float(seconds)):
            await crowd.clock.advance(seconds)
        case ("jump", float(seconds)):
            await crowd.clock.jump(seconds)
        case ("leave", int(index)):
            if index < len(crowd.clients):
                crowd.clients[index].leave()
                await settled()
