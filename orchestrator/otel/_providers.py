"""The providers, given or global, set before or after the orchestrator is entered."""

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Tracer, TracerProvider

from orchestrator import __version__
from orchestrator.otel._log_events import EventLog
from orchestrator.otel._machine_metrics import is_unset_meter_provider

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"


class Providers:
    """Where telemetry goes at this moment; the global providers where none were given."""

    def __init__(
        self,
        given_tracers: TracerProvider | None,
        given_meters: MeterProvider | None,
        events: EventLog | None,
    ) -> None:
        self.given_tracers = given_tracers
        self.given_meters = given_meters
        self.events = events
        self._made: tuple[TracerProvider, Tracer] | None = None

    @property
    def nobody_listens(self) -> bool:
        """Whether no provider has been set so far."""
        return (
            is_unset_meter_provider(self._meters)
            and isinstance(self._tracers, trace.ProxyTracerProvider)
            and not (self.events is not None and self.events.has_provider)
        )

    def tracer(self) -> Tracer | None:
        """Where spans go; `None` as long as no provider has been set for them."""
        provider = self._tracers
        if isinstance(provider, trace.ProxyTracerProvider):
            return None
        if self._made is None or self._made[0] is not provider:
            tracer = provider.get_tracer("startup-orchestrator", __version__, SCHEMA_URL)
            self._made = provider, tracer
        return self._made[1]

    def all(self) -> list[object]:
        """Whatever may hold something back."""
        found: list[object] = [self._tracers, self._meters]
        return found if self.events is None else [*found, self.events.provider]

    @property
    def _tracers(self) -> TracerProvider:
        return self.given_tracers or trace.get_tracer_provider()

    @property
    def _meters(self) -> MeterProvider:
        return self.given_meters or metrics.get_meter_provider()
