"""What browsers get of a fleet: whatever they miss, all have what the board has in the end."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.fleet import _fleet_board
from orchestrator.fleet._fleet_board import BoardPart, FleetBoard
from orchestrator.fleet._fleet_rows import FleetRow
from orchestrator.fleet._news import Contact, Instance
from orchestrator.fleet._presence import PresenceVerdict
from orchestrator.fleet._wire import FleetState
from tests.fleet.scripted_instance import entry_of


def an_instance(name: str, sequence: int = 3) -> Instance:
    state = FleetState(entry_of(f"{name}.0011223344556677", sequence), "chat", 1.0, 6.0, 2.0)
    return Instance(state, PresenceVerdict.ALIVE, 1.0)


class WatchingBrowser:
    """What a browser does with the parts that it gets."""

    def __init__(self) -> None:
        self.place = 0
        self.rows: dict[str, FleetRow] = {}

    def take(self, part: BoardPart) -> None:
        if part.starts_again:
            self.rows.clear()
        self.rows |= {row.instance.incarnation: row for row in part.rows}
        for name in part.gone:
            self.rows.pop(name, None)
        self.place = part.place

    def catch_up(self, board: FleetBoard) -> int:
        parts = 0
        while True:
            part = board.after(self.place)
            self.take(part)
            parts += 1
            if part.is_last:
                return parts


def as_shown(board: FleetBoard) -> dict[str, FleetRow]:
    return {row.instance.incarnation: row for row in board.rows()}


@given(
    st.lists(
        st.tuples(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 9)), st.booleans())
    )
)
def test_whoever_catches_up_has_every_row_and_no_other(
    steps: list[tuple[dict[str, int], bool]],
) -> None:
    board, steady, lazy = FleetBoard(), WatchingBrowser(), WatchingBrowser()
    for fleet, lazy_looks in steps:
        board.show([an_instance(name, sequence) for name, sequence in fleet.items()])
        steady.catch_up(board)
        assert steady.rows == as_shown(board)
        if lazy_looks:
            lazy.take(board.after(lazy.place))
    lazy.catch_up(board)
    assert lazy.rows == as_shown(board)
    assert lazy.place == steady.place == board.place


def test_a_large_fleet_comes_in_parts() -> None:
    board, browser = FleetBoard(), WatchingBrowser()
    board.show([an_instance(f"one-{number}") for number in range(1_100)])
    assert browser.catch_up(board) == 3
    assert browser.rows == as_shown(board)


def test_only_what_has_changed_is_sent() -> None:
    board, browser = FleetBoard(), WatchingBrowser()
    fleet = [an_instance(f"one-{number}") for number in range(10)]
    board.show(fleet)
    browser.catch_up(board)
    fleet[4] = replace(fleet[4], presence=PresenceVerdict.SILENT)
    board.show(fleet)
    part = board.after(browser.place)
    assert [row.instance.name for row in part.rows] == ["one-4"]
    assert (part.gone, part.starts_again, part.is_last) == ([], False, True)
    board.show(fleet)
    assert board.after(part.place) == BoardPart(part.place, [], [], False, True)


def test_one_who_was_away_for_too_long_starts_again() -> None:
    board, browser = FleetBoard(), WatchingBrowser()
    board.show([an_instance("first")])
    browser.catch_up(board)
    board.show([an_instance(f"one-{n}") for n in range(_fleet_board._MOST_GONE + 1)])
    board.show([an_instance("last")])
    part = board.after(browser.place)
    assert part.starts_again
    assert part.gone == []
    browser.catch_up(board)
    assert browser.rows == as_shown(board)


def test_the_place_of_another_life_starts_again() -> None:
    board = FleetBoard()
    board.show([an_instance("one")])
    assert board.after(1_000).starts_again


def test_news_is_given_once_and_only_the_last_is_kept() -> None:
    board = FleetBoard()
    for number in range(300):
        board.add_news(Contact(reached=False, reason=str(number)), float(number))
    kept = [*board.news_after(0)]
    assert len(kept) == 200
    assert [*board.news_after(kept[-1][0])] == []
    assert [number for number, _, _ in board.news_after(298)] == [299, 300]
