"""Verdicts on instances: in virtual time, since the book knows no clock."""

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet._presence import LifeSigns, PresenceBook, PresenceNews, PresenceVerdict

ALIVE, STUCK, LEFT, SILENT, UNKNOWN = PresenceVerdict

SIXTY = [f"i{number}" for number in range(60)]


class Watched:
    """A reader's book, with all instances alive at 0 and known for long."""

    def __init__(self, names: Iterable[str] = ("a",)) -> None:
        self.signs = {name: LifeSigns() for name in names}
        self.book = PresenceBook()
        self.book.reach(-100.0)
        self.book.take_leases({}, self.signs)
        self.book.judge(self.signs, 0.0)

    def look(self, at: float, ended: Mapping[str, float] | None = None) -> PresenceNews:
        self.book.take_leases(ended or {})
        return self.book.judge(self.signs, at)

    @property
    def verdicts(self) -> list[PresenceVerdict]:
        return list(self.book.verdicts.values())


def test_an_instance_whose_lease_holds_is_alive_at_once() -> None:
    book = PresenceBook()
    book.reach(5.0)
    book.take_leases({}, ["a"])
    assert book.judge({"a": LifeSigns()}, 5.0).changed == {"a": ALIVE}


def test_an_instance_whose_lease_has_ended_is_silent() -> None:
    watched = Watched()
    watched.look(10.0, {"a": 0.5})
    assert watched.verdicts == [SILENT]


def test_the_news_of_one_silent_instance_comes_at_the_next_look() -> None:
    watched = Watched()
    assert watched.look(10.0, {"a": 0.5}).changed == {}
    assert watched.look(11.0, {"a": 1.5}).changed == {"a": SILENT}
    assert watched.look(12.0, {"a": 2.5}).changed == {}


def test_one_that_was_silent_for_a_moment_only_is_no_news() -> None:
    watched = Watched()
    watched.look(10.0, {"a": 0.5})
    assert watched.look(11.0).changed == {}
    assert watched.verdicts == [ALIVE]


def test_one_that_comes_back_is_news() -> None:
    watched = Watched()
    watched.look(10.0, {"a": 0.5})
    watched.look(11.0, {"a": 1.5})
    assert watched.look(60.0).changed == {"a": ALIVE}


def test_one_that_said_goodbye_has_left_whatever_its_lease() -> None:
    watched = Watched()
    watched.signs["a"] = LifeSigns(left=True)
    assert watched.look(1.0).changed == {"a": LEFT}
    watched.book.lose()
    assert watched.verdicts == [LEFT]


def test_one_that_is_stuck_still_beats() -> None:
    watched = Watched()
    watched.signs["a"] = LifeSigns(stuck=True)
    assert watched.look(10.0, {"a": 1.9}).changed == {"a": STUCK}
    watched.look(20.0, {"a": 11.9})
    assert watched.verdicts == [SILENT], "its thread died, too"


def test_one_that_was_stuck_and_renews_its_lease_is_alive() -> None:
    watched = Watched()
    watched.signs["a"] = LifeSigns(stuck=True)
    watched.look(10.0, {"a": 1.0})
    assert watched.look(11.0).changed == {"a": ALIVE}


def test_nothing_is_known_while_redis_is_away() -> None:
    watched = Watched(["a", "b"])
    watched.book.lose()
    assert watched.verdicts == [UNKNOWN, UNKNOWN]
    assert watched.book.judge(watched.signs, 5.0) == PresenceNews()


def test_none_is_silent_until_one_lease_has_passed_since_redis_is_back() -> None:
    watched = Watched(SIXTY)
    watched.book.lose()
    watched.book.reach(20.0)
    ended = dict.fromkeys(SIXTY, 14.0)
    assert watched.look(20.0, ended) == PresenceNews()
    assert set(watched.verdicts) == {UNKNOWN}
    for second, name in enumerate(SIXTY):  # they come back one by one, within a beat
        del ended[name]
        assert watched.look(20.0 + second / 30, ended) == PresenceNews()
    assert set(watched.verdicts) == {ALIVE}


def test_one_that_does_not_come_back_with_redis_is_silent_after_one_lease() -> None:
    watched = Watched(["a", "b"])
    watched.book.lose()
    watched.book.reach(20.0)
    watched.look(25.9, {"b": 20.0})
    assert watched.verdicts == [ALIVE, UNKNOWN]
    watched.look(26.0, {"b": 20.1})
    assert watched.verdicts == [ALIVE, SILENT]


def test_an_instance_with_a_longer_lease_gets_longer() -> None:
    watched = Watched()
    watched.signs["a"] = LifeSigns(lease_seconds=60.0)
    watched.book.lose()
    watched.book.reach(20.0)
    watched.look(79.0, {"a": 20.0})
    assert watched.verdicts == [UNKNOWN]
    watched.look(80.0, {"a": 21.0})
    assert watched.verdicts == [SILENT]


def test_a_lease_that_redis_has_lost_gets_one_lease_of_time_to_come_back() -> None:
    watched = Watched()
    watched.book.take_leases({}, [])
    watched.book.judge(watched.signs, 10.0)
    assert watched.verdicts == [UNKNOWN]
    watched.book.judge(watched.signs, 16.0)
    assert watched.verdicts == [SILENT]
    watched.book.take_leases({}, ["a"])
    watched.book.judge(watched.signs, 17.0)
    assert watched.verdicts == [ALIVE]


def test_one_that_is_silent_and_then_swept_away_stays_silent() -> None:
    watched = Watched()
    watched.look(10.0, {"a": 0.5})
    watched.book.take_leases({}, [])
    watched.book.judge(watched.signs, 11.0)
    assert watched.verdicts == [SILENT]


def test_an_instance_that_is_gone_is_forgotten() -> None:
    watched = Watched()
    watched.look(10.0, {"a": 0.5})
    del watched.signs["a"]
    assert watched.look(11.0) == PresenceNews()
    assert watched.verdicts == []


def test_most_of_a_fleet_that_goes_silent_is_one_piece_of_news() -> None:
    watched = Watched(SIXTY)
    ended: dict[str, float] = {}
    for second in range(3):  # beats are spread over 2 s, and so are the ends of leases
        ended |= dict.fromkeys(SIXTY[second * 14 : second * 14 + 14], 0.5)
        assert watched.look(10.0 + second, ended) == PresenceNews()
    news = watched.look(13.0, ended)
    assert (len(news.silent_together), news.of, news.changed) == (42, 60, {})
    assert watched.look(14.0, ended) == PresenceNews()


def test_a_part_of_a_fleet_that_goes_silent_is_news_of_each() -> None:
    watched = Watched(SIXTY)
    ended = dict.fromkeys(SIXTY[:30], 0.5)
    watched.look(10.0, ended)
    assert watched.look(11.0, ended).changed == dict.fromkeys(SIXTY[:30], SILENT)


def test_a_fleet_that_goes_silent_bit_by_bit_is_no_news_for_one_lease_at_most() -> None:
    watched = Watched(SIXTY)
    for second in range(8):
        news = watched.look(10.0 + second, dict.fromkeys(SIXTY[: second + 1], 0.5))
        if news.changed:
            break
    assert second == 6
    assert len(news.changed) == 7


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["end", "renew"])), max_size=20))
def test_the_news_adds_up_to_the_verdicts(events: list[tuple[str, str]]) -> None:
    watched = Watched("ab")
    heard = {"a": ALIVE, "b": ALIVE}
    ended: dict[str, float] = {}
    at = 0.0
    for name, event in events:
        at += 1.0
        if event == "end":
            ended.setdefault(name, 0.1)
        else:
            ended.pop(name, None)
        heard |= watched.look(at, ended).changed
    heard |= watched.look(at + 1.0, ended).changed
    assert heard == watched.book.verdicts


@pytest.mark.parametrize("said", [float(10**11), 7200.0])
def test_a_lease_that_nobody_would_ask_for_is_not_waited_for(said: float) -> None:
    watched = Watched()
    watched.signs["a"] = LifeSigns(lease_seconds=said)
    watched.book.lose()
    watched.book.reach(0.0)
    watched.look(3600.0, {"a": 1.0})
    assert watched.verdicts == [SILENT]
