"""Draws `docs/images/startup-trace.svg` from the spans of a real run: `python` with this file."""

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from rich.console import Console

from orchestrator.cli.demo.choices import DemoOptions
from orchestrator.cli.demo.embedded_redis import find_redis_server
from orchestrator.cli.demo.live_view import DemoLines
from orchestrator.cli.demo.measure import DemoRun
from orchestrator.cli.demo.reports import Protection, SpanReport
from orchestrator.cli.demo.waterfall import Waterfall, WaterfallRow, lay_out, traces

_WIDTH = 960
_LABEL_WIDTH = 230
_BAR_WIDTH = 560
_ROW_HEIGHT = 22
_HEAD_HEIGHT = 46
_TEXT_RISE = 15
_STEPS = 5
_GRID_STEPS = (1, 2, 5)

_COLOURS = {
    "booting": "#8b949e",
    "probing_redis": "#d29922",
    "grace": "#2aa1b3",
    "ready": "#2da44e",
    "degraded": "#cf222e",
}
_ROOT, _CONDITION, _ATTEMPT, _FAILED = "#57606a", "#8250df", "#0969da", "#cf222e"

_STYLE = """
  text { font: 12px ui-sans-serif, system-ui, sans-serif; fill: #24292f }
  .head { font-weight: 600; font-size: 13px }
  .quiet { fill: #656d76 }
  .end { text-anchor: end }
  .number { text-anchor: end; font-variant-numeric: tabular-nums }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .event { stroke: #24292f; stroke-width: 1; stroke-dasharray: 3 2 }
"""


PICTURE = Path(__file__).parents[1] / "images" / "startup-trace.svg"


def picture(spans: Sequence[SpanReport]) -> str:
    """Every trace as one SVG document, with nothing in it that needs a network."""
    parts: list[str] = []
    top = 0
    for trace in traces(spans):
        waterfall = lay_out(trace, _BAR_WIDTH)
        parts += [f'<g transform="translate(0 {top})">', *_trace(waterfall), "</g>"]
        top += _HEAD_HEIGHT + _ROW_HEIGHT * (len(waterfall.rows) + len(waterfall.events) + 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}"'
        f' viewBox="0 0 {_WIDTH} {top}" role="img">\n'
        f"<title>The traces of a start-up, an outage and the recovery</title>\n"
        f'<style>{_STYLE}</style>\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _trace(waterfall: Waterfall) -> Iterator[str]:
    height = _ROW_HEIGHT * len(waterfall.rows)
    yield _text(12, 20, f"trace {waterfall.trace_id}", "head")
    yield from _grid(waterfall.duration_milliseconds, height)
    for number, row in enumerate(waterfall.rows):
        yield from _row(row, _HEAD_HEIGHT + number * _ROW_HEIGHT)
    for number, event in enumerate(waterfall.events):
        x = _x(event.offset_milliseconds / waterfall.duration_milliseconds)
        y = _HEAD_HEIGHT + height + number * _ROW_HEIGHT
        yield f'<line class="event" x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD_HEIGHT}" y2="{y + 4}"/>'
        # The text ends at its line where that is far to the right.
        style, beside = ("end", -4) if x > _LABEL_WIDTH + _BAR_WIDTH / 2 else ("", 4)
        yield _text(x + beside, y + _TEXT_RISE, event.text, style)


def _grid(duration_milliseconds: float, height: int) -> Iterator[str]:
    step = _round_step(duration_milliseconds / _STEPS)
    at = 0.0
    while at <= duration_milliseconds:
        x = _x(at / duration_milliseconds)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="38" y2="{_HEAD_HEIGHT + height}"/>'
        yield _text(x + 3, 36, f"{at:g} ms", "quiet")
        at += step


def _row(row: WaterfallRow, y: int) -> Iterator[str]:
    indent = len(row.label) - len(row.label.lstrip())
    error = f": {row.error}" if row.error else ""
    yield _text(12 + 7 * indent, y + _TEXT_RISE, row.label.lstrip(), "")
    yield (
        f'<rect x="{_LABEL_WIDTH + row.first}" y="{y + 4}" width="{max(2, row.cells)}" height="14"'
        f' rx="2" fill="{_colour(row)}">'
        f"<title>{escape(row.kind + error)}</title></rect>"
    )
    number = f"{row.duration_milliseconds:.1f} ms"
    yield _text(_WIDTH - 12, y + _TEXT_RISE, number, "number quiet")


def _colour(row: WaterfallRow) -> str:
    if row.error:
        return _FAILED
    if row.kind.startswith("condition "):
        return _CONDITION
    if row.kind == "PING":
        return _ATTEMPT
    return _COLOURS.get(row.kind.rpartition(" ")[2], _ROOT)


def _x(share: float) -> float:
    return _LABEL_WIDTH + _BAR_WIDTH * share


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y}">{escape(text)}</text>'


def _round_step(least: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... that is no less."""
    power = 1e-3
    while True:
        for step in _GRID_STEPS:
            if step * power >= least:
                return step * power
        power *= 10


def main() -> None:
    """Run the demo with its outage, and draw what it traced."""
    options = DemoOptions(
        connections=200,
        redis_delay_seconds=1.0,
        settle_seconds=0.4,
        grace_seconds=0.5,
        port=0,
        outage=True,
    )
    binary = find_redis_server() or "redis-server"
    with tempfile.TemporaryDirectory() as directory:
        run = DemoRun(Protection.GATE, options, binary, Path(directory), DemoLines(Console()))
        asyncio.run(run())
    PICTURE.write_text(picture(run.spans), encoding="utf-8")


if __name__ == "__main__":
    main()
