"""What the page of a fleet shows, and what has changed since a browser was last sent something.

Pure. Every change of a row gets a number, and rows are kept in the order of these numbers. A
browser is a place: the number of the last change that it has. It is sent what came after that, in
parts, so that neither many nor slow browsers need copies of their own. A row that goes leaves its
name behind for a while. A browser that was away for longer starts again.
"""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import takewhile

from orchestrator.fleet._fleet_rows import FleetRow, FleetTotals, fleet_rows, fleet_totals
from orchestrator.fleet._news import FleetNews, Instance

_MOST_ROWS_AT_ONCE = 500
_MOST_GONE = 2_000
_MOST_NEWS = 200


@dataclass(frozen=True, slots=True)
class BoardPart:
    """What a browser does not have yet.

    Attributes:
        place: Where it is once it has this.
        rows: The rows that are new or have changed.
        gone: The incarnations whose rows are gone.
        starts_again: Whether it must forget what it has first.
        is_last: Whether it then has everything.
    """

    place: int
    rows: list[FleetRow]
    gone: list[str]
    starts_again: bool
    is_last: bool


class FleetBoard:
    """The rows of a fleet, its totals and its last news.

    Attributes:
        totals: How many instances there are.
        place: The number of the last change.
        news_number: The number of the last news.
    """

    def __init__(self) -> None:
        self.totals = FleetTotals()
        self.place = 0
        self.news_number = 0
        self._rows: dict[str, tuple[int, FleetRow | None]] = {}
        self._forgotten = 0
        self._news: deque[tuple[int, float, FleetNews]] = deque(maxlen=_MOST_NEWS)

    def show(self, instances: Collection[Instance]) -> None:
        """These are all instances now."""
        rows = {row.instance.incarnation: row for row in fleet_rows(instances)}
        for incarnation in [one for one, (_, row) in self._rows.items() if row]:
            if incarnation not in rows:
                self._put(incarnation, None)
        for incarnation, row in rows.items():
            if self._rows.get(incarnation, (0, None))[1] != row:
                self._put(incarnation, row)
        self._forget()
        self.totals = fleet_totals(instances)

    def add_news(self, news: FleetNews, unix_now: float) -> None:
        """Keep a piece of news."""
        self.news_number += 1
        self._news.append((self.news_number, unix_now, news))

    def rows(self) -> list[FleetRow]:
        """All rows, the oldest trouble first."""
        return fleet_rows([row.instance for _, row in self._rows.values() if row])

    def after(self, place: int) -> BoardPart:
        """What comes after a place; 0 is that of a browser which has nothing."""
        starts_again = 0 < place < self._forgotten or place > self.place
        if starts_again:
            place = 0
        later = [*takewhile(lambda one: one[1][0] > place, reversed(self._rows.items()))]
        part = later[::-1][:_MOST_ROWS_AT_ONCE]
        return BoardPart(
            part[-1][1][0] if part else max(place, self.place),
            [row for _, (_, row) in part if row],
            [name for name, (_, row) in part if not row] if place else [],
            starts_again,
            len(part) == len(later),
        )

    def news_after(self, number: int) -> Iterator[tuple[int, float, FleetNews]]:
        """The last news after a number, each with its number and when it came."""
        return (one for one in self._news if one[0] > number)

    def _put(self, incarnation: str, row: FleetRow | None) -> None:
        self._rows.pop(incarnation, None)
        self.place += 1
        self._rows[incarnation] = (self.place, row)

    def _forget(self) -> None:
        gone = [name for name, (_, row) in self._rows.items() if row is None]
        for name in gone[: max(0, len(gone) - _MOST_GONE)]:
            self._forgotten = self._rows.pop(name)[0] + 1
