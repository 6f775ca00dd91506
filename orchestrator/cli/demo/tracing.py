"""The demo service's tracing: spans are handed to the demo, and exported where one asks for it."""

from collections.abc import Callable, Mapping

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id
from opentelemetry.util.types import AttributeValue

from orchestrator.cli.demo.reports import SERVICE_NAME, SpanReport, export_endpoint
from orchestrator.otel import Telemetry, setup_telemetry


class Tracing:
    """A tracer provider whose spans are reported; exported too, where the environment asks for it.

    Args:
        report: Called with every span that ends.
    """

    def __init__(self, report: Callable[[SpanReport], None]) -> None:
        # Exporters are loaded and set up only where there is an endpoint for them.
        self._telemetry = setup_telemetry(SERVICE_NAME) if export_endpoint() else Telemetry()
        provider = trace.get_tracer_provider()
        if not isinstance(provider, TracerProvider):
            provider = TracerProvider(resource=Resource.create({"service.name": SERVICE_NAME}))
        provider.add_span_processor(_HandOver(report))
        self.provider = provider

    def close(self) -> None:
        """Export what is left; bounded."""
        self._telemetry.shutdown()


class _HandOver(SpanProcessor):
    """Reports every span that ends."""

    def __init__(self, report: Callable[[SpanReport], None]) -> None:
        self._report = report

    def on_end(self, span: ReadableSpan) -> None:
        context = span.get_span_context()
        if context is None or span.start_time is None or span.end_time is None:
            return
        attributes = span.attributes or {}
        self._report(
            SpanReport(
                trace_id=format_trace_id(context.trace_id),
                span_id=format_span_id(context.span_id),
                parent_id=format_span_id(span.parent.span_id) if span.parent else "",
                name=span.name,
                start=span.start_time,
                end=span.end_time,
                events=[
                    (event.name, event.timestamp, _transition(event.attributes or {}))
                    for event in span.events
                ],
                error=str(attributes.get("error.type", "")),
            )
        )


def _transition(attributes: Mapping[str, AttributeValue]) -> str:
    """`from -> to (trigger)`, of the event of a change of stage; empty for any other."""
    names = ("orchestrator.stage.from", "orchestrator.stage.to", "orchestrator.transition.trigger")
    previous, current, trigger = (attributes.get(name) for name in names)
    return f"{previous} -> {current} ({trigger})" if current else ""
