"""Spans as they were made, and as receivers give them back, in one form to compare them in."""

import base64
from collections.abc import Mapping, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from tests.otel.collector_support import Json
from tests.otel.otel_support import span_id, trace_id

Spans = dict[str, dict[str, object]]
"""Spans by their ids, in a form that both sides can be brought into."""

_KINDS = {f"SPAN_KIND_{kind.name}": kind.value + 1 for kind in SpanKind}
_STATUSES = {f"STATUS_CODE_{code.name}": code.value for code in StatusCode}


def by_trace(spans: Sequence[ReadableSpan]) -> dict[str, Spans]:
    """What was made, by the ids of its traces."""
    traces: dict[str, Spans] = {}
    for span in spans:
        trace = traces.setdefault(format_trace_id(trace_id(span)), {})
        trace[format_span_id(span_id(span))] = _as_made(span)
    return traces


def received(resources: Json) -> Spans:
    """What a receiver gives: the resources of a trace in OTLP's JSON."""
    spans = [
        _as_received(span)
        for resource in resources
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    return {str(span.pop("id")): span for span in spans}


def _as_made(span: ReadableSpan) -> dict[str, object]:
    return {
        "name": span.name,
        "kind": span.kind.value + 1,  # the protocol has 0 for "unspecified"
        "parent": format_span_id(span.parent.span_id) if span.parent else "",
        "times": (span.start_time, span.end_time),
        "status": (span.status.status_code.value, span.status.description or ""),
        "attributes": _plain(span.attributes or {}),
        "events": [(e.name, e.timestamp, _plain(e.attributes or {})) for e in span.events],
        "links": [
            (
                format_trace_id(link.context.trace_id),
                format_span_id(link.context.span_id),
                _plain(link.attributes or {}),
            )
            for link in span.links
        ],
    }


def _as_received(span: Json) -> dict[str, object]:
    # The protocol's numbers: 1 is OK and 2 an error, as in the API. Some give their names.
    status = span.get("status", {})
    code, kind = status.get("code", 0), span["kind"]
    return {
        "id": _hex(span["spanId"], 8),
        "name": span["name"],
        "kind": _KINDS.get(kind, kind),
        "parent": _hex(span.get("parentSpanId", ""), 8),
        "times": (int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])),
        "status": (_STATUSES.get(code, code), status.get("message", "")),
        "attributes": _attributes(span),
        "events": [
            (event["name"], int(event["timeUnixNano"]), _attributes(event))
            for event in span.get("events", [])
        ],
        "links": [
            (_hex(link["traceId"], 16), _hex(link["spanId"], 8), _attributes(link))
            for link in span.get("links", [])
        ],
    }


def _hex(number: str, size: int) -> str:
    """An id as OTLP's JSON has it, also where it was written as other bytes are, in base 64."""
    return number if len(number) in (0, 2 * size) else base64.b64decode(number).hex()


def _plain(attributes: Mapping[str, object]) -> dict[str, object]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in attributes.items()}


def _attributes(of: Json) -> dict[str, object]:
    return {one["key"]: _value(one["value"]) for one in of.get("attributes", [])}


def _value(value: Json) -> object:
    ((kind, content),) = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "doubleValue":
        return float(content)
    if kind == "arrayValue":
        return [_value(one) for one in content["values"]]
    return content
