"""What a benchmark yields: rows of a table, and plots."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Self  # Any: what JSON gives is only known when it is looked at


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of one candidate, in the row's unit, once for each round.

    Attributes:
        name: The candidate; with a version where that matters.
        values: One value a round.
        note: What a reader must know to compare it; may be empty.
    """

    name: str
    values: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        """The value that is shown."""
        return median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest value."""
        return min(self.values), max(self.values)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target and whether it was met, in words with the figure in it."""

    text: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: all of it measured in one run, interleaved.

    Attributes:
        part: Which part of the suite it belongs to.
        what: What was measured.
        unit: Of all values.
        ours: Ours.
        peers: The others that do the same job.
        floor: What the job costs at least, if there is such a thing.
        more_is_better: Whether a greater value is the better one.
        verdicts: The targets.
    """

    part: str
    what: str
    unit: str
    ours: Figure
    peers: tuple[Figure, ...] = ()
    floor: Figure | None = None
    more_is_better: bool = False
    verdicts: tuple[Verdict, ...] = ()

    @property
    def best_peer(self) -> Figure | None:
        """The best of the peers."""
        choose = max if self.more_is_better else min
        return choose(self.peers, key=lambda peer: peer.median, default=None)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """How a cost grows; both axes are logarithmic."""

    part: str
    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]


@dataclass(slots=True)
class Results:
    """Everything that one run yielded, and on what."""

    machine: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, items: Iterable[Row | Plot]) -> None:
        """Take what a part yielded."""
        for item in items:
            if isinstance(item, Row):
                self.rows.append(item)
            else:
                self.plots.append(item)

    def missed(self) -> Iterator[str]:
        """Each target that was not met, with its part and row."""
        for row in self.rows:
            for verdict in row.verdicts:
                if not verdict.met:
                    yield f"{row.part}: {row.what}: {verdict.text}"

    def as_json(self) -> dict[str, Any]:
        """For `json.dump`."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The inverse of `as_json`."""
        return cls(
            machine=data["machine"],
            seconds=data["seconds"],
            rows=[row_from_json(row) for row in data["rows"]],
            plots=[plot_from_json(plot) for plot in data["plots"]],
            failures=data["failures"],
        )


def at_most(ours: Figure, times: float, other: Figure | None, what: str = "") -> Verdict:
    """The target that our median is at most `times` that of another candidate."""
    if other is None:
        return Verdict(f"at most {times:g} x {what}: nothing to compare with", met=False)
    ratio = ours.median / other.median
    return Verdict(f"{ratio:.3g} x {what or other.name} (at most {times:g})", ratio <= times)


def at_least(ours: Figure, times: float, other: Figure) -> Verdict:
    """The target that our median is at least `times` that of another candidate."""
    ratio = ours.median / other.median
    return Verdict(f"{ratio:.4g} x {other.name} (at least {times:g})", ratio >= times)


def below(ours: Figure, limit: float, unit: str) -> Verdict:
    """The target that our median is below a limit in the row's unit."""
    return Verdict(f"{ours.median:.3g} {unit} (under {limit:g})", ours.median < limit)


def row_from_json(data: dict[str, Any]) -> Row:
    """A row from what `asdict` made of it."""

    def figure(data: dict[str, Any]) -> Figure:
        return Figure(data["name"], tuple(data["values"]), data["note"])

    return Row(
        part=data["part"],
        what=data["what"],
        unit=data["unit"],
        ours=figure(data["ours"]),
        peers=tuple(figure(peer) for peer in data["peers"]),
        floor=figure(data["floor"]) if data["floor"] else None,
        more_is_better=data["more_is_better"],
        verdicts=tuple(Verdict(**verdict) for verdict in data["verdicts"]),
    )


def plot_from_json(data: dict[str, Any]) -> Plot:
    """A plot from what `asdict` made of it."""
    series = tuple(
        Series(one["name"], tuple((x, y) for x, y in one["points"])) for one in data["series"]
    )
    return Plot(**(data | {"series": series}))
