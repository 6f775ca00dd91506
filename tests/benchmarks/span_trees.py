"""Spans that were written once, in a form in which the SDK alone can write them again."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue


@dataclass(frozen=True, slots=True)
class SpanTree:
    """What a span is made of, and the spans below it."""

    name: str
    kind: SpanKind
    attributes: dict[str, AttributeValue]
    events: list[tuple[str, dict[str, AttributeValue]]]
    links: list[Link]
    failure: str | None
    children: "list[SpanTree]" = field(default_factory=list)


def trees_of(spans: Sequence[ReadableSpan]) -> list[SpanTree]:
    """The roots of finished spans, each with what is below it."""
    trees: dict[int, SpanTree] = {}
    roots: list[SpanTree] = []
    for span in spans:
        assert span.context is not None
        trees[span.context.span_id] = SpanTree(
            span.name,
            span.kind,
            dict(span.attributes or {}),
            [(event.name, dict(event.attributes or {})) for event in span.events],
            list(span.links),
            None if span.status.is_unset else span.status.description or "",
        )
    for span, tree in zip(spans, trees.values(), strict=True):
        siblings = trees[span.parent.span_id].children if span.parent else roots
        siblings.append(tree)
    return roots


def write_again(tracer: Tracer, tree: SpanTree, context: Context) -> None:
    """Make and end the span and those below it, by the SDK alone."""
    span = tracer.start_span(
        tree.name, context, tree.kind, tree.attributes, tree.links, start_time=10**18
    )
    for event, attributes in tree.events:
        span.add_event(event, attributes, 10**18)
    if tree.children:
        inside = set_span_in_context(span, Context())
        for child in tree.children:
            write_again(tracer, child, inside)
    if tree.failure is not None:
        span.set_status(Status(StatusCode.ERROR, tree.failure))
    span.end(10**18 + 1)
