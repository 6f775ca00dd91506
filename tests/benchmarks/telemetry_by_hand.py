"""The same start-up traced with the SDK over gRPC, set up by hand as its documentation has it."""

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from orchestrator import Observer, StartupContext
from states import Fact, StageChanged

DELAY_MILLIS = 1000
"""How soon a batch is sent; ours takes as long, and 5 s would be after the end."""


class ByHand(Observer):
    """A span for each attempt and each stage, made and ended where it happens.

    Args:
        endpoint: The collector's URL.
    """

    def __init__(self, endpoint: str) -> None:
        resource = Resource.create({"service.name": "bench"})
        tracers = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint, insecure=True)
        tracers.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=DELAY_MILLIS))
        trace.set_tracer_provider(tracers)
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint, insecure=True))
        metrics.set_meter_provider(MeterProvider([reader], resource=resource))
        self._tracer = trace.get_tracer("bench")
        self._attempts = metrics.get_meter("bench").create_counter("attempts")

    def started(self, context: StartupContext) -> None:
        """The first stage begins."""
        self._stage = self._tracer.start_span("booting")

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """A span for the attempt, and another stage's where it has changed."""
        with self._tracer.start_as_current_span(
            "attempt", attributes={"fact": type(fact).__name__}
        ):
            self._attempts.add(1)
        if changed is not None:
            self._stage.add_event("changed", {"to": changed.current.value})
            self._stage.end()
            self._stage = self._tracer.start_span(changed.current.value)

    def stopped(self, at: float) -> None:
        """The last stage ends."""
        self._stage.end()
