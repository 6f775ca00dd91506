"""The observer that writes traces and metrics."""

import os
from collections import deque

from opentelemetry import trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import SpanContext, Tracer, TracerProvider, format_trace_id

from orchestrator import __version__
from orchestrator._ports import Observer, StartupContext
from orchestrator.otel._episode import Episode, EpisodeName, Recorder
from orchestrator.otel._metrics import MetricsWriter
from orchestrator.otel._trace import TraceWriter, parent_context
from states import Fact, StageChanged

_SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

_LATER_EPISODES = 8
"""The episodes after the start-up that wait for a tracer provider; the oldest go first."""


class OpenTelemetryObserver(Observer):
    """Writes a trace for the start-up and for each later fall and recovery, and metrics.

    A trace is written when its episode ends: the start-up at the first ready or degraded, or when
    the orchestrator is left. So providers may be set at any time before that, or after it: what is
    finished waits, bounded, until the next fact. No span is ever made current.

    The environment variable `TRACEPARENT` (W3C Trace Context) names a parent for the start-up, such
    as a deployment's trace.

    Args:
        tracer_provider: Where spans go; the global provider if not given.
        meter_provider: Where metrics go; the global provider if not given.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._recorder: Recorder | None = None
        self._traces: TraceWriter | None = None
        self._metrics: MetricsWriter | None = None
        self._startup: Episode | None = None
        self._later: deque[Episode] = deque(maxlen=_LATER_EPISODES)
        self._linked: dict[str, SpanContext] = {}

    @property
    def trace_id(self) -> str | None:
        """The trace of the start-up: 32 hexadecimal digits; `None` until it was written."""
        root = self._linked.get("startup")
        return format_trace_id(root.trace_id) if root is not None and root.is_valid else None

    def started(self, context: StartupContext) -> None:
        """Begin the start-up's episode; nothing is written for a disabled orchestrator."""
        if not context.enabled:
            return
        self._recorder = Recorder(context)
        self._traces = TraceWriter(context, parent_context(os.environ))
        self._metrics = MetricsWriter(context, self._meter_provider, __version__)
        self._startup = None
        self._later.clear()
        self._linked = {}

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Record a fact; write the trace of an episode that it ended."""
        if self._recorder is None or self._metrics is None:
            return
        self._metrics.observed(fact, changed)
        self._finish(self._recorder.observed(fact, changed))

    def stopped(self, at: float) -> None:
        """End what is not finished, and write what waits."""
        if self._recorder is None or self._metrics is None:
            return
        self._finish(self._recorder.stopped(at))
        self._metrics.stopped()

    def _finish(self, episode: Episode | None) -> None:
        if episode is not None:
            if episode.name is EpisodeName.STARTUP:
                self._startup = episode
            else:
                self._later.append(episode)
            if self._metrics is not None:
                self._metrics.ended(episode)
        if (self._startup is not None or self._later) and (tracer := self._tracer()) is not None:
            self._write(tracer)

    def _write(self, tracer: Tracer) -> None:
        """Write all that is finished, oldest first."""
        if self._traces is None:
            return
        if self._startup is not None:
            startup, self._startup = self._startup, None
            self._linked["startup"] = self._traces.write(tracer, startup, {}).get_span_context()
        while self._later:
            episode = self._later.popleft()
            root = self._traces.write(tracer, episode, self._linked)
            self._linked["previous"] = root.get_span_context()

    def _tracer(self) -> Tracer | None:
        provider = self._tracer_provider or trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider):
            return None
        return provider.get_tracer("startup-orchestrator", __version__, _SCHEMA_URL)
