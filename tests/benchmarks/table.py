"""The results as Markdown."""

from collections.abc import Iterator

from tests.benchmarks.rows import Figure, Results, Row

_HUNDRED = 100


def markdown(results: Results) -> str:
    """One table: what, ours, the peers, the floor, and the ratios."""
    lines = [" · ".join(results.machine.values()), ""]
    for part in dict.fromkeys(row.part for row in results.rows):
        lines += ["", f"## {part}", "", *of_part(results, part)]
    lines += [f"- **{part} failed**: {why}" for part, why in results.failures.items()]
    took = sum(results.seconds.values())
    lines += ["", f"Measured in {took:.0f} s."]
    return "\n".join(lines) + "\n"


def of_part(results: Results, part: str) -> list[str]:
    """The lines of one part's table."""
    rows = [row for row in results.rows if row.part == part]
    return [*_HEAD, *(line for row in rows for line in _lines(row))] if rows else []


_HEAD = (
    "| what | ours | peers | floor | to the best peer | to the floor | targets |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)


def _lines(row: Row) -> Iterator[str]:
    peers = "<br>".join(
        f"{peer.name} {_shown(peer, row.unit)}"
        for peer in sorted(row.peers, key=lambda peer: peer.median, reverse=row.more_is_better)
    )
    cells = (
        row.what,
        f"**{_shown(row.ours, row.unit)}**" + (f"<br>{row.ours.note}" if row.ours.note else ""),
        peers or "-",
        f"{row.floor.name} {_shown(row.floor, row.unit)}" if row.floor else "-",
        _ratio(row.ours, row.best_peer),
        _ratio(row.ours, row.floor),
        "<br>".join(f"{'met' if v.met else '**missed**'}: {v.text}" for v in row.verdicts) or "-",
    )
    yield "| " + " | ".join(cells) + " |"


def _shown(figure: Figure, unit: str) -> str:
    low, high = figure.spread
    return f"{number(figure.median)} {unit} ({number(low)}-{number(high)})"


def _ratio(ours: Figure, other: Figure | None) -> str:
    return f"{ours.median / other.median:.3g}" if other and other.median else "-"


def number(value: float) -> str:
    """Three digits that count, and none that do not."""
    return f"{value:,.0f}" if abs(value) >= _HUNDRED else f"{value:.3g}"
