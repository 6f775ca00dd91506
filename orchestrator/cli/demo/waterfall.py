"""A trace as a waterfall of text: one row a span, its bar where it lies in the whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from orchestrator.cli.demo.reports import SpanReport

_MOST_ROWS = 24
_NANOSECONDS_PER_MILLISECOND = 1e6


@dataclass(frozen=True, slots=True)
class WaterfallRow:
    """One span, laid out.

    Attributes:
        label: The span's name, indented below its parent's.
        kind: The span's name, to choose a colour by.
        first: The column of the bar's first cell.
        cells: How many cells the bar has, at least 1.
        marks: The columns of the span's events.
        offset_milliseconds: When it began, after the trace did.
        duration_milliseconds: How long it took.
        error: The span's `error.type`, if any.
    """

    label: str
    kind: str
    first: int
    cells: int
    marks: tuple[int, ...]
    offset_milliseconds: float
    duration_milliseconds: float
    error: str


@dataclass(frozen=True, slots=True)
class WaterfallEvent:
    """A span event, to be listed below the bars."""

    offset_milliseconds: float
    text: str


@dataclass(frozen=True, slots=True)
class Waterfall:
    """One trace, laid out in `width` columns."""

    trace_id: str
    duration_milliseconds: float
    width: int
    rows: tuple[WaterfallRow, ...]
    left_out: int
    events: tuple[WaterfallEvent, ...]


def traces(spans: Sequence[SpanReport]) -> list[list[SpanReport]]:
    """The spans of each trace; the traces in the order in which they were reported."""
    by_id: dict[str, list[SpanReport]] = {}
    for span in spans:
        by_id.setdefault(span.trace_id, []).append(span)
    return list(by_id.values())


def lay_out(spans: Sequence[SpanReport], width: int) -> Waterfall:
    """Lay out the spans of one trace.

    Args:
        spans: At least one.
        width: How many columns the longest bar has.
    """
    begin = min(span.start for span in spans)
    end = max(begin + 1, *(span.end for span in spans))
    scale = width / (end - begin)

    def column(at: int) -> int:
        return max(0, min(width - 1, int((at - begin) * scale)))

    def row(depth: int, span: SpanReport) -> WaterfallRow:
        first = column(span.start)
        return WaterfallRow(
            label="  " * depth + span.name,
            kind=span.name,
            first=first,
            cells=max(1, min(round((span.end - span.start) * scale), width - first)),
            marks=tuple(column(at) for _, at, _ in span.events),
            offset_milliseconds=(span.start - begin) / _NANOSECONDS_PER_MILLISECOND,
            duration_milliseconds=(span.end - span.start) / _NANOSECONDS_PER_MILLISECOND,
            error=span.error,
        )

    events = sorted((at, text or name) for span in spans for name, at, text in span.events)
    rows = [row(depth, span) for depth, span in _tree(spans)]
    return Waterfall(
        trace_id=spans[0].trace_id,
        duration_milliseconds=(end - begin) / _NANOSECONDS_PER_MILLISECOND,
        width=width,
        rows=tuple(rows[:_MOST_ROWS]),
        left_out=len(rows[_MOST_ROWS:]),
        events=tuple(
            WaterfallEvent((at - begin) / _NANOSECONDS_PER_MILLISECOND, text) for at, text in events
        ),
    )


def _tree(spans: Sequence[SpanReport]) -> Iterator[tuple[int, SpanReport]]:
    """Every span with its depth: parents before children, siblings by time."""
    known = {span.span_id for span in spans}
    children: dict[str, list[SpanReport]] = {}
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        parent = span.parent_id if span.parent_id in known else ""
        children.setdefault(parent, []).append(span)

    def below(parent: str, depth: int) -> Iterator[tuple[int, SpanReport]]:
        for span in children.get(parent, ()):
            yield depth, span
            yield from below(span.span_id, depth + 1)

    yield from below("", 0)
