"""What `make herd` shows, on fleets that are small enough for every day."""

import math
from pathlib import Path

import pytest

from tests.herd import page, runs
from tests.herd.pacing import USUAL, ours
from tests.herd.servers import Crowded, Queue, Reply
from tests.herd.simulation import simulate


def test_a_slow_server_gets_through_its_queue() -> None:
    # Less than one in a step of any length, as with a server that takes 30 s for each.
    server = Queue(per_second=0.5)
    assert [server.connect(at)[1] for at in (0.0, 0.0, 10.0)] == [2.0, 4.0, 12.0]
    fleet = simulate(20, Queue(per_second=2.0), ours(2000.0), most_seconds=60.0)
    assert fleet.within(1.0) == pytest.approx(10.0, abs=1.0)


def test_what_a_full_queue_cannot_take_is_dropped() -> None:
    server = Queue(per_second=10.0, backlog=2)
    assert [server.connect(0.0)[0] for _ in range(5)].count(Reply.DROPPED) == 2


def test_a_server_with_little_room_says_so_to_those_who_have_none() -> None:
    server = Crowded(turn_seconds=0.1, room=2, backlog=3)
    replies = [server.connect(0.05)[0] for _ in range(4)]
    assert replies == [Reply.ANSWER, Reply.ANSWER, Reply.FULL, Reply.DROPPED]
    assert server.connect(0.15)[1] == pytest.approx(0.2)


@pytest.mark.parametrize("known", [1.0, 0.25])
def test_a_known_fleet_is_back_in_about_the_time_that_it_takes(known: float) -> None:
    fleet = simulate(2000, Queue(400.0), ours(2000.0, known))
    assert fleet.within(0.99) <= 1.2 * 0.99 * 2000 / 400
    assert fleet.knocks_each == 1


def test_what_is_usual_is_lost_in_its_own_herd() -> None:
    fleet = simulate(2000, Queue(400.0), USUAL["every 0.5 s"], most_seconds=15.0)
    assert fleet.within(0.99) == math.inf


def test_a_redis_that_is_full_is_asked_evenly_and_so_no_room_is_left_unused() -> None:
    ideal = 0.99 * 600 / 500
    evenly = simulate(600, Crowded(0.1, 50), ours(8000.0)).within(0.99)
    assert evenly <= 1.25 * ideal
    assert evenly < simulate(600, Crowded(0.1, 50), USUAL["full jitter to 10 s"]).within(0.99)


def test_the_committed_page_is_what_the_committed_figures_give() -> None:
    lines = page.read()
    text = (page.DOCS / page.PAGE).read_text(encoding="utf-8")
    assert text == page.markdown(lines), "run `make herd ARGS=--page`"
    for plot in page.plots(lines):
        assert (page.DOCS / "images" / page.image(plot)).exists()


def test_a_fleet_that_is_not_back_is_said_so(tmp_path: Path) -> None:
    lost = runs.Line(runs.QUEUE, runs.OURS, 1000, 1.0, None, None, 3.0, 2.0)
    (tmp_path / "explanation").mkdir()
    assert page.read(tmp_path) == []
    assert "not back" in page.markdown([lost])


@pytest.mark.long
def test_real_instances_come_back() -> None:
    line = runs.real("plain", 40)
    assert line.most is not None
    assert line.knocks_each < 3
