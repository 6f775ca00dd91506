"""The page of the benchmarks: what one run of the suite yielded, as JSON, Markdown and plots.

The figures come from the run alone. What a person has to say about them stands in `notes/`: the
files `glance.md` and `intro.md`, and one for each part, such as `notes/fan-out.md`.
"""

import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any  # Any: the plotting library is there only with the extra `bench`

from tests.benchmarks import glance, table
from tests.benchmarks.rows import Plot, Results, Row

NOTES = Path(__file__).parent / "notes"
PAGE = Path("explanation", "performance.md")
DATA = PAGE.with_suffix(".json")
IMAGES = Path("images")
PLOT_PREFIX = "performance-"
GLANCE = f"{PLOT_PREFIX}{glance.NAME}.svg"

_MACHINE = {"processor": "Processor", "system": "System", "python": "Python", "date": "Date"}


def read(docs: Path) -> Results:
    """The figures that the page in this folder has."""
    return Results.from_json(json.loads((docs / DATA).read_text(encoding="utf-8")))


def merged(results: Results, docs: Path, order: Iterable[str]) -> Results:
    """What is on the page already, with the parts of this run in place of their old ones.

    Args:
        results: Of some of the parts.
        docs: The documentation's folder.
        order: Of the parts.
    """
    old = read(docs)
    new = {*results.seconds, *results.failures}
    places = {part: place for place, part in enumerate(order)}

    def place(item: Row | Plot) -> int:
        return places.get(item.part, len(places))

    seconds = {part: took for part, took in old.seconds.items() if part not in new}
    seconds |= results.seconds
    failures = {part: why for part, why in old.failures.items() if part not in new}
    return Results(
        results.machine,
        {part: seconds[part] for part in places if part in seconds},
        sorted([*(row for row in old.rows if row.part not in new), *results.rows], key=place),
        sorted([*(plot for plot in old.plots if plot.part not in new), *results.plots], key=place),
        failures | results.failures,
    )


def write(results: Results, docs: Path) -> None:
    """Write the data, the page and the plots into the documentation's folder."""
    importlib.import_module("matplotlib")  # where it is missing, nothing of the old page is lost
    # The page is made of what the file says, so that a test can make it again.
    data = json.dumps(results.as_json(), indent=1) + "\n"
    (docs / DATA).write_text(data, encoding="utf-8")
    results = Results.from_json(json.loads(data))
    (docs / PAGE).write_text(markdown(results), encoding="utf-8")
    for old in (docs / IMAGES).glob(f"{PLOT_PREFIX}*.svg"):
        old.unlink()
    glance.draw(results, docs / IMAGES / GLANCE, PLOT_PREFIX)
    for plot in results.plots:
        draw(plot, docs / IMAGES / image(plot))


def markdown(results: Results, notes: Path = NOTES) -> str:
    """The page."""
    return "\n".join(_lines(results, notes)) + "\n"


def image(plot: Plot) -> str:
    """The name of a plot's file."""
    return f"{PLOT_PREFIX}{plot.part}-{plot.name}.svg"


def _lines(results: Results, notes: Path) -> Iterator[str]:
    yield "<!-- Written by `make bench ARGS=--page`; edit tests/benchmarks/notes instead. -->"
    yield from ("# Performance", "", *_note(notes, "glance"))
    yield from (f"![{glance.ALT}](../{IMAGES.as_posix()}/{GLANCE})", "", *_note(notes, "intro"))
    yield from ("| measured on | |", "| --- | --- |")
    for key, value in results.machine.items():
        yield f"| {_MACHINE.get(key, key)} | {value} |"
    yield f"| Time taken | {sum(results.seconds.values()):.0f} s |"
    verdicts = [verdict for row in results.rows for verdict in row.verdicts]
    met = sum(verdict.met for verdict in verdicts)
    yield from ("", f"Of {len(verdicts)} targets, {met} are met.", "", *_missed(results))
    for part in parts(results):
        yield from (f"## {part}", "", *_note(notes, part))
        if lines := table.of_part(results, part):
            yield from (*lines, "")
        if part in results.failures:
            yield from (f"**It could not be measured**: {results.failures[part]}.", "")
        for plot in results.plots:
            if plot.part == part:
                yield from (f"![{plot.title}](../{IMAGES.as_posix()}/{image(plot)})", "")
    yield "Each figure is the median of all rounds, with the least and the greatest in brackets."


def parts(results: Results) -> list[str]:
    """All parts that yielded or failed, in the order in which they ran."""
    seen = [*results.seconds, *(row.part for row in results.rows), *results.failures]
    return list(dict.fromkeys(seen))


def _missed(results: Results) -> Iterator[str]:
    if lines := [f"- {line}" for line in results.missed()]:
        yield from ("Missed; each is explained below:", "", *lines, "")


def _note(notes: Path, name: str) -> Iterator[str]:
    file = notes / f"{name}.md"
    if file.exists():
        yield from (*file.read_text(encoding="utf-8").strip().splitlines(), "")


def draw(plot: Plot, file: Path) -> None:
    """Draw one plot; the same figures give the same file."""
    # Untyped on purpose: type checks must pass without the extra.
    matplotlib: Any = importlib.import_module("matplotlib")
    # A fixed salt for the ids within, text as text, and no date: or each run would be a change.
    settings = {"svg.hashsalt": PLOT_PREFIX, "svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure: Any = importlib.import_module("matplotlib.figure").Figure(figsize=(7.2, 4.2))
        axes = figure.subplots()
        for series, marker in zip(plot.series, "osD^vP*X<>" * 3, strict=False):
            axes.plot(*zip(*series.points, strict=True), marker=marker, label=series.name)
        axes.set(
            xscale="log", yscale="log", title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label
        )
        axes.grid(visible=True, alpha=0.3)
        # Beside the plot: within, it would lie over a line.
        axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
        # White paper below dark ink reads on light and dark pages alike.
        figure.savefig(
            file, format="svg", metadata={"Date": None}, facecolor="white", bbox_inches="tight"
        )
