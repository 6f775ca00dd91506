"""The picture at the top of the page: ours, the best peer and the floor, for what a newcomer asks.

Each group is one row of the table, with bars in proportion to each other; shorter is better.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any  # Any: the plotting library is there only with the extra `bench`

from tests.benchmarks.rows import Figure, Results, Row
from tests.benchmarks.table import number

NAME = "at-a-glance"
ALT = "What takes how long: the orchestrator, the best other way, and the least possible"

_INK, _OURS, _PEER, _FLOOR = "#1f2328", "#1a7f5a", "#9aa4af", "#d5dbe1"
_WIDTH_INCHES, _GROUP_INCHES, _HEAD_INCHES = 5.4, 0.86, 0.62


@dataclass(frozen=True, slots=True)
class Question:
    """One group of the picture.

    Attributes:
        text: The question.
        part: The part of the row that answers it.
        what: What the row's `what` begins with.
        passed_over: Peers that do less, by a part of their names.
    """

    text: str
    part: str
    what: str
    passed_over: str = ""


QUESTIONS = (
    Question("A service with Redis and traces starts, to its first answer", "import", "a service"),
    Question("Redis is asked once, on a new connection", "probe", "connect, PING and close, asy"),
    Question("Redis was killed, and it is noticed", "loss", "SIGKILL of Redis"),
    Question(
        "Redis is back after 30 s, and those who ask as seldom notice",
        "detection",
        "Redis answers to subscriber told, after an outage of 30 s",
        "0.1 s",
    ),
    Question("10,000 tasks that wait for it are told", "fan-out", "asyncio: 10,000 sub", "(calls)"),
    Question(
        "An HTTP request to a service that is ready: processor time",
        "ready",
        "the server's processor time for each request",
        "a middleware",
    ),
)


def answer(results: Results, question: Question) -> Row | None:
    """The row that answers a question, if it was measured."""
    for row in results.rows:
        if row.part == question.part and row.what.startswith(question.what):
            return row
    return None


def bars(row: Row, question: Question) -> list[tuple[str, Figure, str]]:
    """What stands in a group: its label, the figure, and its color; ours first."""
    found = [("orchestrator", row.ours, _OURS)]
    skipped = question.passed_over
    peers = [peer for peer in row.peers if not (skipped and skipped in peer.name)]
    if peers:
        best = min(peers, key=lambda peer: peer.median)
        found.append((f"best other: {best.name}", best, _PEER))
    if row.floor is not None:
        found.append((f"the least: {row.floor.name}", row.floor, _FLOOR))
    return found


def draw(results: Results, file: Path, salt: str) -> None:
    """Draw it; the same figures give the same file."""
    groups = [(one, row) for one in QUESTIONS if (row := answer(results, one)) is not None]
    # Untyped on purpose: type checks must pass without the extra.
    matplotlib: Any = importlib.import_module("matplotlib")
    settings = {"svg.hashsalt": salt, "svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        height = _HEAD_INCHES + _GROUP_INCHES * max(1, len(groups))
        make: Any = importlib.import_module("matplotlib.figure").Figure
        figure = make(figsize=(_WIDTH_INCHES, height))
        axes = figure.add_axes((0.02, 0.0, 0.96, 1 - _HEAD_INCHES / height))
        for place, (question, row) in enumerate(groups):
            _group(axes, place, question, row)
        axes.set(xlim=(0, 1.0), ylim=(max(1, len(groups)), 0))
        axes.set_axis_off()
        _legend(figure, height)
        figure.savefig(file, format="svg", metadata={"Date": None}, facecolor="white")


def _group(axes: Any, place: int, question: Question, row: Row) -> None:
    axes.text(0, place + 0.08, question.text, fontsize=10.5, weight="bold", color=_INK, va="center")
    found = bars(row, question)
    longest = max(figure.median for _, figure, _ in found)
    for line, (label, figure, color) in enumerate(found):
        at, length = place + 0.29 + line * 0.215, max(figure.median / longest * 0.34, 0.004)
        axes.barh(at, length, height=0.17, color=color, left=0)
        value = f"{number(figure.median)} {row.unit}"
        weight = "bold" if line == 0 else "normal"
        axes.text(length + 0.012, at, value, fontsize=9.5, color=_INK, va="center", weight=weight)
        axes.text(0.49, at, _shortened(label), fontsize=8.5, color=_INK, va="center", weight=weight)


_MOST_CHARACTERS = 45


def _shortened(label: str) -> str:
    return label if len(label) <= _MOST_CHARACTERS else label[: _MOST_CHARACTERS - 1] + "…"


def _legend(figure: Any, height: float) -> None:
    top = 1 - 0.2 / height
    figure.text(0.02, top, "Shorter is better", fontsize=12, weight="bold", color=_INK, va="center")
    words = "each group has a scale of its own; all of it is measured in one run"
    figure.text(0.02, top - 0.22 / height, words, fontsize=9, color=_INK, va="center")
