"""What the demo prints at its end: the traces as waterfalls, and the figures as a table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.cli.demo.figures import (
    ABNORMAL_CLOSURE,
    INTERNAL_ERROR,
    NORMAL_CLOSURE,
    SERVICE_RESTART,
    RunFigures,
)
from orchestrator.cli.demo.live_view import STYLES
from orchestrator.cli.demo.reports import Protection, SpanReport
from orchestrator.cli.demo.waterfall import Waterfall, WaterfallRow, lay_out, traces

_FigureRow = tuple[str, Callable[[RunFigures], Text | None]]
"""A title, and what stands there for a run; `None` where it has no such figure."""

_FEWEST_BAR_CELLS = 16
_NUMBERS = "   starts at      takes"


@dataclass(frozen=True, slots=True)
class _Glyphs:
    """What bars are made of."""

    good: str
    failed: str
    event: str


_UNICODE = _Glyphs(good="█", failed="▒", event="◆")
_ASCII = _Glyphs(good="#", failed="x", event="|")


def print_traces(console: Console, spans: Sequence[SpanReport]) -> None:
    """Draw every trace, the start-up's first."""
    for trace in traces(spans):
        label_width = max(len(row.label) for row in lay_out(trace, 1).rows)
        width = max(_FEWEST_BAR_CELLS, console.width - label_width - len(_NUMBERS) - 2)
        _print_waterfall(console, lay_out(trace, width), label_width)


def _print_waterfall(console: Console, waterfall: Waterfall, label_width: int) -> None:
    glyphs = _UNICODE if console.encoding.startswith("utf") else _ASCII
    head = f"trace {waterfall.trace_id}"
    console.print()
    console.print(
        Text(head.ljust(label_width + 2 + waterfall.width), "bold")
        + Text(_NUMBERS, "bright_black"),
        soft_wrap=True,
    )
    for row in waterfall.rows:
        line = Text(row.label.ljust(label_width) + "  ")
        line += _bar(row, waterfall.width, glyphs)
        line.append(f"  {row.offset_milliseconds:7.1f} ms", "bright_black")
        line.append(f" {row.duration_milliseconds:7.1f} ms")
        console.print(line, soft_wrap=True)
    if waterfall.left_out:
        console.print(f"  ... and {waterfall.left_out} more spans", style="bright_black")
    for event in waterfall.events:
        line = Text(f"  {glyphs.event} ", "bold")
        line += Text(f"{event.offset_milliseconds:7.1f} ms  {event.text}")
        console.print(line, soft_wrap=True)
    errors = sorted({row.error for row in waterfall.rows if row.error})
    if errors:
        console.print(f"  {glyphs.failed} failed: {', '.join(errors)}", style="red", soft_wrap=True)


def _bar(row: WaterfallRow, width: int, glyphs: _Glyphs) -> Text:
    stage = row.kind.rpartition(" ")[2]
    style = "red" if row.error else STYLES.get(stage, "blue")
    cells = [" "] * width
    full = glyphs.failed if row.error else glyphs.good
    cells[row.first : row.first + row.cells] = [full] * row.cells
    bar = Text()
    for column, cell in enumerate(cells):
        if column in row.marks:
            bar.append(glyphs.event, "bold")
        else:
            bar.append(cell, style)
    return bar


def print_summary(console: Console, runs: Sequence[RunFigures]) -> None:
    """The figures of all runs, a column each."""
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for run in runs:
        table.add_column(_HEADS[Protection(run.gate)], justify="right")
    for title, figure in (*_FIRST_ROWS, *_close_rows(runs), *_ROWS):
        cells = [figure(run) for run in runs]
        if any(cell is not None for cell in cells):
            table.add_row(title, *(Text("-", "bright_black") if c is None else c for c in cells))
    console.print()
    console.print(table)


_HEADS = {
    Protection.GATE: "gate",
    Protection.NONE: "no gate",
    Protection.SLEEP: "blocking sleep",
    Protection.FULL: "gate, checks, tasks",
}


def _seconds(value: float | None) -> Text | None:
    return None if value is None else Text(f"{value:.3f} s")


def _served(run: RunFigures) -> Text:
    return Text(f"{run.served} of {run.clients}", "green" if run.served == run.clients else "red")


def _closed(code: int) -> Callable[[RunFigures], Text]:
    def figure(run: RunFigures) -> Text:
        count = run.closed_with(code)
        bad = count and code != NORMAL_CLOSURE
        return Text(str(count), "red" if bad else "green")

    return figure


def _other_errors(run: RunFigures) -> Text | None:
    if not run.errors:
        return None
    return Text(", ".join(f"{count} x {what}" for what, count in run.errors.items()), "red")


def _stall(run: RunFigures) -> Text:
    return Text(f"{run.max_loop_stall_seconds * 1000:.0f} ms", "red" if run.stalled else "green")


def _listener_late(run: RunFigures) -> Text | None:
    if run.listener_up_seconds is None or run.port_open_seconds is None:
        return None
    return Text(f"{run.listener_up_seconds - run.port_open_seconds:.3f} s")


def _drained(run: RunFigures, code: int) -> Text | None:
    if run.drained is None:
        return None
    count = run.drained.get(str(code), 0)
    return Text(str(count), "green" if (code == SERVICE_RESTART) == bool(count) else "red")


def _close_rows(runs: Sequence[RunFigures]) -> list[_FigureRow]:
    """A row for each close code that was seen, and for those that must not be."""
    seen = {int(code) for run in runs for code in run.closes}
    codes = sorted(seen | {ABNORMAL_CLOSURE, INTERNAL_ERROR})
    return [(f"closed with {code}", _closed(code)) for code in codes]


_FIRST_ROWS: tuple[_FigureRow, ...] = (("clients served", _served),)

_ROWS: tuple[_FigureRow, ...] = (
    ("refused with 503", lambda run: Text(str(run.refused))),
    ("other errors", _other_errors),
    ("longest wait for a handshake", lambda run: _seconds(run.longest_handshake_seconds)),
    ("longest stall of the event loop", _stall),
    ("port open before the task is up", _listener_late),
    ("Redis up to ready", lambda run: _seconds(run.redis_up_to_ready_seconds)),
    ("Redis killed to degraded", lambda run: _seconds(run.kill_to_degraded_seconds)),
    ("Redis back to grace", lambda run: _seconds(run.restart_to_grace_seconds)),
    ("Redis back to ready", lambda run: _seconds(run.restart_to_ready_seconds)),
    ("at the end, closed with 1012", lambda run: _drained(run, SERVICE_RESTART)),
    ("at the end, closed with 1006", lambda run: _drained(run, ABNORMAL_CLOSURE)),
)
