"""What the telemetry tests share: a service whose time is moved by hand, and ways to read spans."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator import Orchestrator, Policy, Probe, ProbeResult, Target
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.testing import ManualClock, ScriptedProbe
from states import Failure, Platform, Stage

Point = HistogramDataPoint | NumberDataPoint

BORN_AT = 98.5
ENTERED_AT = 100.0


class TimedProbe(Probe):
    """Each attempt takes as long as told on the clock, and its result waits `lag_seconds` more."""

    def __init__(
        self, clock: ManualClock, took_seconds: float, lag_seconds: float, *script: Failure | None
    ) -> None:
        self._clock = clock
        self._took_seconds = took_seconds
        self._lag_seconds = lag_seconds
        self._script = list(script)

    async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
        await anyio.lowlevel.checkpoint()
        failure = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        with self._clock.cancel_at(self._clock.now() + self._took_seconds + self._lag_seconds):
            await anyio.sleep_forever()
        return ProbeResult(self._took_seconds, failure, self._lag_seconds)

    @property
    def target(self) -> Target:
        return Target(address="redis.internal", port=6380, namespace="2")


@dataclass
class Traced:
    """An orchestrator's surroundings, with spans and metrics kept in memory."""

    clock: ManualClock = field(
        default_factory=lambda: ManualClock(ENTERED_AT, age_seconds=ENTERED_AT - BORN_AT)
    )

    def __post_init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.observer = OpenTelemetryObserver(self.tracers, self.meters)
        self.kept: list[object] = []  # what must not be collected before it is measured

    def orchestrator(
        self,
        probe: Probe | None = None,
        *,
        conditions: Sequence[str] = (),
        policy: Policy | None = None,
    ) -> Orchestrator:
        return Orchestrator(
            probe or ScriptedProbe(),
            policy=policy or Policy.for_platform(Platform.CLOUD_RUN),
            conditions=conditions,
            clock=self.clock,
            observers=[self.observer],
        )

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        assert self.observer.wait_until_written(5.0)
        return self.exporter.get_finished_spans()

    @property
    def roots(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.parent is None]

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span

    def trace_of(self, root: ReadableSpan) -> list[ReadableSpan]:
        return [span for span in self.spans if trace_id(span) == trace_id(root)]

    def points(self, metric: str) -> dict[str, Point]:
        """The metric's points by their attributes, written as `name=value name=value`."""
        assert self.observer.wait_until_written(5.0)
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            " ".join(
                "=".join((k, str(v))) for k, v in sorted((point.attributes or {}).items())
            ): point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for found in scope.metrics
            if found.name == metric
            for point in found.data.data_points
            if isinstance(point, HistogramDataPoint | NumberDataPoint)
        }

    def numbers(self, metric: str) -> dict[str, int | float]:
        """The same of a counter: its values."""
        found = self.points(metric)
        return {name: p.value for name, p in found.items() if isinstance(p, NumberDataPoint)}

    @property
    def current_stages(self) -> list[str]:
        """The stages that the metrics call current: one, or none at the end."""
        values = self.numbers("orchestrator.stage")
        assert set(values) == {f"orchestrator.stage={stage}" for stage in Stage}
        assert set(values.values()) <= {0, 1}
        return [name.partition("=")[2] for name, value in values.items() if value]


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def trace_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def linked(span: ReadableSpan) -> dict[object, int]:
    """The spans it links to, by what they are to it."""
    return {
        (link.attributes or {})["orchestrator.link"]: link.context.span_id for link in span.links
    }


def times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


def seconds(span: ReadableSpan) -> float:
    start, end = times(span)
    return (end - start) / 1e9
