"""Real parts: traces go through the official collector to Jaeger, and are read back span by span.

`OTELCOL` and `JAEGER` name the programs; where they are not installed, this is skipped.
"""

import json
import re
from collections.abc import Iterator, Sequence
from functools import partial

import anyio
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id

from orchestrator.otel import OpenTelemetryObserver
from tests.otel.collector_spans import Spans, by_trace, received
from tests.otel.collector_support import (
    ROOT,
    a_collector,
    a_jaeger,
    get_json,
    until,
)
from tests.otel.otel_support import trace_id
from tests.otel.stories import tell_all


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sequence[ReadableSpan], str]]:
    """The spans as they were made, and the URL of the Jaeger that got them by the collector."""
    directory = tmp_path_factory.mktemp("receivers")
    with a_jaeger(directory) as (jaeger, api), a_collector(directory, jaeger=jaeger) as (_, http):
        made = InMemorySpanExporter()
        provider = TracerProvider(
            resource=Resource.create({"service.name": "stories"}), shutdown_on_exit=False
        )
        provider.add_span_processor(SimpleSpanProcessor(made))
        exporter = OTLPSpanExporter(f"http://127.0.0.1:{http}/v1/traces")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        anyio.run(tell_all, lambda: OpenTelemetryObserver(provider))
        provider.shutdown()
        yield made.get_finished_spans(), api


def test_every_span_arrives_in_jaeger_as_it_was_made(
    told: tuple[Sequence[ReadableSpan], str],
) -> None:
    spans, api = told
    traces = by_trace(spans)
    assert len(traces) >= 4 + 6  # four starts, three falls and three ways back at least
    for trace_hex, expected in traces.items():
        got = until(partial(_complete, api, trace_hex, len(expected)), f"{trace_hex} arrives")
        assert set(got) == set(expected)
        for number, made in expected.items():
            assert got[number] == made


def _complete(api: str, trace: str, spans: int) -> Spans | None:
    answer = get_json(f"{api}/api/v3/traces/{trace}")
    if answer is None:
        return None
    got = received(answer["result"]["resourceSpans"])
    return got if len(got) >= spans else None


def test_jaeger_finds_failed_starts_by_their_tags(
    told: tuple[Sequence[ReadableSpan], str],
) -> None:
    """The searches of `docs/how-to/jaeger.md`."""
    spans, api = told
    failed = {
        format_trace_id(trace_id(span))
        for span in spans
        if span.name == "startup" and (span.attributes or {})["orchestrator.outcome"] == "degraded"
    }
    assert len(failed) == 2

    def search(tag: str) -> set[str]:
        name, _, value = tag.partition("=")
        answer = get_json(
            f"{api}/api/traces",
            service="stories",
            operation="startup",
            tags=json.dumps({name: value}),
            limit="20",
        )
        return {trace["traceID"] for trace in answer["data"]}

    page = (ROOT / "docs/how-to/jaeger.md").read_text(encoding="utf-8")
    found = {tag: search(tag) for tag in re.findall(r"\| `(\S+=\S+)` \|", page)}
    assert found["orchestrator.outcome=degraded"] == failed
    assert found["orchestrator.outcome=stopped"] == set()
    wrong, late = found["error.type=AuthenticationError"], found["error.type=condition_not_met"]
    assert len(wrong) == len(late) == 1
    assert wrong | late == failed
    assert found["orchestrator.stage.failed=probing_redis"] == wrong
