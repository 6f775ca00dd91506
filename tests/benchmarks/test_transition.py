"""The benchmark of a transition yields every row, and its candidates make transitions."""

import gc

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.benchmarks import part_transition
from tests.benchmarks.transition_ways import PEERS, peers

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def no_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting garbage takes long beside a whole test suite, and here no time is measured."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def test_every_row_comes_with_every_candidate() -> None:
    alone, *rest = part_transition.measure(transitions=30, flaps=2, repeat=1, rounds=2)
    names = [peer.name for peer in alone.peers]
    assert names == ["transitions Machine, no callback", *peers()]
    assert alone.floor is not None
    assert [row.ours.name for row in rest[:2]] == [
        "ours, on the event loop",
        "ours, in all threads",
    ]
    assert all(row.floor is not None and row.peers for row in rest[:2])
    assert [row.what.rpartition(": ")[2] for row in rest[2:]] == [
        "no provider",
        "sampled out",
        "recorded",
        "sampled out",
    ]
    assert all(len(row.ours.values) == 2 for row in (alone, *rest))


def test_peers_that_are_installed_run() -> None:
    for name, run in peers().items():
        assert name in PEERS
        assert run(6) > 0


def test_the_floor_writes_the_very_spans_that_ours_writes() -> None:
    ours, exporter = part_transition.written(2), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    part_transition.same_spans(provider, 2, 1)()
    again = exporter.get_finished_spans()
    assert len(ours) > 5
    assert sorted(map(_shape, again)) == sorted(map(_shape, ours))
    _, told = part_transition.history(2)
    assert part_transition.changes(told) == 9


def _shape(span: ReadableSpan) -> str:
    events = [(event.name, sorted((event.attributes or {}).items())) for event in span.events]
    attributes = sorted((span.attributes or {}).items())
    status = span.status.status_code, span.status.description
    parts = (span.name, span.kind, attributes, events, len(span.links), status, bool(span.parent))
    return repr(parts)
