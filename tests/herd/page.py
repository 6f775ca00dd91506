"""The page about herds: its figures come from `herd.json`, its words from `page.md`."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.page import draw
from tests.benchmarks.rows import Plot, Series
from tests.herd.runs import (
    BACKLOG,
    CLIENTS,
    CROWD,
    CROWDED,
    CROWDS,
    OURS,
    QUEUE,
    REAL,
    REAL_ROOM,
    ROOM_FOR,
    ROOMS,
    SIZES,
    Line,
)

WORDS = Path(__file__).with_name("page.md")
DOCS = Path(__file__).parents[2] / "docs"
PAGE = Path("explanation", "herd.md")
DATA = PAGE.with_suffix(".json")

_HEAD = "<!-- Written by `make herd ARGS=--page`; edit tests/herd/page.md instead. -->\n"
_POSSIBLE = "possible"
_REAL_CLIENTS = """
The same with real WebSocket clients, and a real uvicorn in another process. `possible` is the
number of clients by the rate that the gate measured; beside that rate stands also the most that
came in a second once it was ready.
"""
_TITLES = {
    BACKLOG: "A server that drops what it cannot queue",
    QUEUE: "A server that works for those who have left",
}


def write(lines: Sequence[Line], docs: Path = DOCS) -> None:
    """Write the data, the page and the drawings."""
    data = json.dumps([asdict(line) for line in lines], indent=1) + "\n"
    (docs / DATA).write_text(data, encoding="utf-8")
    lines = read(docs)
    (docs / PAGE).write_text(markdown(lines), encoding="utf-8")
    for plot in plots(lines):
        draw(plot, docs / "images" / image(plot))


def read(docs: Path = DOCS) -> list[Line]:
    """The figures of the page; none if it was never written."""
    if not (docs / DATA).exists():
        return []
    return [Line(**one) for one in json.loads((docs / DATA).read_text(encoding="utf-8"))]


def image(plot: Plot) -> str:
    """The name of a drawing's file."""
    return f"herd-{plot.name}.svg"


def plots(lines: Iterable[Line]) -> Iterator[Plot]:
    """How the time grows with the fleet, for each kind of server."""
    lines = list(lines)
    for run, title in _TITLES.items():
        of_run = sorted((line for line in lines if line.run == run), key=lambda line: line.size)
        series = [
            Series(pace, tuple(_points(line for line in of_run if line.pace == pace)))
            for pace in dict.fromkeys(line.pace for line in of_run)
        ]
        possible = {line.size: line.ideal for line in of_run}
        series.append(Series(_POSSIBLE, tuple(possible.items())))
        yield Plot(
            part="herd",
            name=run,
            title=title,
            x_label="instances",
            y_label="seconds until 99 % are back",
            series=tuple(one for one in series if one.points),
        )


def _points(lines: Iterable[Line]) -> Iterator[tuple[float, float]]:
    for line in lines:
        if line.most is not None:
            yield line.size, line.most


def markdown(lines: Sequence[Line]) -> str:
    """The page."""
    text = WORDS.read_text(encoding="utf-8")
    for run in _TITLES:
        text = text.replace(f"{{{run}}}", "\n".join(_by_size(lines, run)))
    text = text.replace("{full}", "\n".join(_rooms(lines)))
    text = text.replace("{clients}", "\n".join(_clients(lines)))
    text = text.replace("{crowd}", "\n".join(_crowd(lines)))
    text = text.replace("{room}", "\n".join(_room(lines)))
    return _HEAD + text.replace("{real}", "\n".join(_real(lines)))


def _by_size(lines: Sequence[Line], run: str) -> Iterator[str]:
    lines = [line for line in lines if line.run == run]
    sizes = [size for size in SIZES if any(line.size == size for line in lines)]
    yield "| pace | " + " | ".join(f"{size:,}" for size in sizes) + " | most connections at once |"
    yield "|---|" + "---|" * (len(sizes) + 1)
    possible = {line.size: _seconds(line.ideal) for line in lines}
    yield f"| {_POSSIBLE} | {' | '.join(possible[size] for size in sizes)} | 1 x |"
    for pace in dict.fromkeys(line.pace for line in lines):
        row = {line.size: line for line in lines if line.pace == pace}
        peak = max(row.items())[1].peak
        cells = " | ".join(_seconds(row[size].most) if size in row else "" for size in sizes)
        yield f"| {_name(pace)} | {cells} | {peak:.1f} x |"


def _rooms(lines: Sequence[Line]) -> Iterator[str]:
    heads = [f"{room.size:,}, room for {room.room} each {room.turn_seconds:g} s" for room in ROOMS]
    yield "| pace | " + " | ".join(heads) + " |"
    yield "|---|" + "---|" * len(ROOMS)
    full = [line for line in lines if line.run == CROWDED]
    for pace in dict.fromkeys(line.pace for line in full):
        cells = " | ".join(_times(line) for line in full if line.pace == pace)
        yield f"| {_name(pace)} | {cells} |"


def _clients(lines: Sequence[Line]) -> Iterator[str]:
    heads = [f"{size:,} clients, {per_second:g}/s" for size, per_second in CROWDS]
    yield "| `Retry-After` | " + " | ".join(heads) + " |"
    yield "|---|" + "---|" * len(CROWDS)
    crowds = [line for line in lines if line.run == CLIENTS]
    first = next((line.pace for line in crowds), "")
    possible = " | ".join(_seconds(line.ideal) for line in crowds if line.pace == first)
    yield f"| {_POSSIBLE} | {possible} |"
    for pace in dict.fromkeys(line.pace for line in crowds):
        cells = " | ".join(_seconds(line.most) for line in crowds if line.pace == pace)
        yield f"| {pace} | {cells} |"


def _room(lines: Sequence[Line]) -> Iterator[str]:
    """Real probers of a Redis that has little room; nothing where they did not run."""
    lines = [line for line in lines if line.run == REAL_ROOM]
    if not lines:
        return
    yield f"""
{lines[0].size:,} real probers, and a real Redis with room for {ROOM_FOR}. Each leaves once it has
its answer.
"""
    yield "| pace | possible | half | 99 % | connections each |"
    yield "|---|---|---|---|---|"
    for line in lines:
        seconds = [_seconds(one) for one in (line.ideal, line.half, line.most)]
        yield f"| {_name(line.pace)} | {' | '.join(seconds)} | {line.knocks_each:.2f} |"


def _crowd(lines: Sequence[Line]) -> Iterator[str]:
    """Real clients; nothing where they did not run."""
    lines = [line for line in lines if line.run == CROWD]
    if not lines:
        return
    yield _REAL_CLIENTS
    yield "| `Retry-After` | clients | possible | half | 99 % | visits each | most in a second |"
    yield "|---|---|---|---|---|---|---|"
    for line in lines:
        seconds = [_seconds(one) for one in (line.ideal, line.half, line.most)]
        cells = [f"{line.size:,}", *seconds, f"{line.knocks_each:.2f}", f"{line.peak or 0:.1f} x"]
        yield f"| {line.pace} | {' | '.join(cells)} |"


def _real(lines: Sequence[Line]) -> Iterator[str]:
    yield "| Redis | pace | possible | half | 99 % | connections each |"
    yield "|---|---|---|---|---|---|"
    for line in lines:
        if line.run in REAL:
            half, most = _seconds(line.half), _seconds(line.most)
            figures = f"{line.ideal:.2f} s | {half} | {most} | {line.knocks_each:.2f}"
            yield f"| {line.run} | {_name(line.pace)} | {figures} |"


def _name(pace: str) -> str:
    return f"**{pace}**" if pace == OURS else pace


def _times(line: Line) -> str:
    return "not back" if line.times is None else f"{line.times:.2f} x"


def _seconds(seconds: float | None) -> str:
    return "not back" if seconds is None else f"{seconds:.2f} s"
