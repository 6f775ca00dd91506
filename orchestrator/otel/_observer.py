"""The observer that writes traces, events and metrics."""

import logging
import os
from collections import deque
from typing import TYPE_CHECKING, get_args

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import (
    Span,
    SpanContext,
    Tracer,
    TracerProvider,
    format_trace_id,
    set_span_in_context,
)

from orchestrator import __version__
from orchestrator._ports import Observer, StartupContext
from orchestrator.otel._episode import Episode, EpisodeName
from orchestrator.otel._events import EventLog, Events
from orchestrator.otel._flush import Flusher
from orchestrator.otel._metrics import MetricsWriter, is_unset_meter_provider
from orchestrator.otel._recorder import Recorder
from orchestrator.otel._trace import TraceWriter, parent_context
from states import Fact, Stage, StageChanged

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

logger = logging.getLogger("orchestrator")

_SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"

_LATER_EPISODES = 8
"""The episodes after the start-up that wait for a tracer provider; the oldest go first."""

_EARLY_FACTS = 512
"""The facts that are kept as they are while there is no provider at all. Only then are they made
into episodes, which are smaller; most processes without a provider never get there."""

_LOOK_FIRST_SECONDS = 1.0
_LOOK_CAP_SECONDS = 30.0
"""How often one looks for a provider that is set late: to look costs more than to keep a fact."""

_ENDS_STARTUP = (Stage.READY, Stage.DEGRADED)


class OpenTelemetryObserver(Observer):
    """Writes a trace for the start-up and for each later fall and recovery, and metrics.

    A trace is written when its episode ends: the start-up at the first ready or degraded, or when
    the orchestrator is left. So providers may be set at any time before that, or after it: what is
    finished waits, bounded, until the next fact. No span is ever made current. For each trace that
    was written, and not sampled out, one line is logged with its id.

    A start-up that failed is sent at once. When the orchestrator is left, all that the providers
    hold is sent, and waited for up to 0.6 s: many servers end the process right after that.

    The environment variable `TRACEPARENT` (W3C Trace Context) names a parent for the start-up, such
    as a deployment's trace.

    Args:
        tracer_provider: Where spans go; the global provider if not given.
        meter_provider: Where metrics go; the global provider if not given.
        logger_provider: Where log events go; the global provider if not given.
        events: Where changes of stage are told: `span` for span events on the root, `log` for log
            events that belong to it, or `both`.

    Raises:
        ValueError: When `events` is none of these.
        RuntimeError: When log events are asked for, and the installed OpenTelemetry API has none.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: "LoggerProvider | None" = None,
        *,
        events: Events = "span",
    ) -> None:
        if events not in get_args(Events):
            raise ValueError(f"events is {events!r}; it must be 'span', 'log' or 'both'")
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._span_events = events != "log"
        self._event_log = (
            None if events == "span" else EventLog(logger_provider, __version__, _SCHEMA_URL)
        )
        self._recorder: Recorder | None = None
        self._traces: TraceWriter | None = None
        self._metrics: MetricsWriter | None = None
        self._made: tuple[TracerProvider, Tracer] | None = None
        self._flusher = Flusher()
        self._early: deque[tuple[Fact, StageChanged | None]] = deque()
        self._early_until = 0.0
        self._entered_at = 0.0
        self._in_startup = True
        self._waiting = True
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
        self._traces = TraceWriter(
            context, parent_context(os.environ), span_events=self._span_events
        )
        self._metrics = MetricsWriter(context, self._meter_provider, __version__)
        self._startup = None
        self._later.clear()
        self._linked = {}
        self._early.clear()
        self._entered_at = context.now_at
        self._early_until = context.now_at + _LOOK_FIRST_SECONDS
        self._in_startup = True
        self._waiting = self._nobody_listens()

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Record a fact; write the trace of an episode that it ended."""
        if self._recorder is None:
            return
        if not self._waiting:
            self._take(fact, changed)
            return
        self._early.append((fact, changed))
        if changed is not None and self._in_startup and changed.current in _ENDS_STARTUP:
            self._in_startup = False  # a start-up's trace is to be seen as soon as it can be
            self._look(fact.at)
        elif fact.at >= self._early_until or len(self._early) >= _EARLY_FACTS:
            self._look(fact.at)

    def stopped(self, at: float) -> None:
        """End what is not finished, write what waits, and send it."""
        if self._recorder is None or self._metrics is None:
            return
        self._look(at)
        self._take_early()
        episode = self._recorder.stopped(at)
        if episode is not None:
            self._ended(episode)
        else:
            self._write_all()
        self._metrics.stopped()
        self._flush()
        self._flusher.wait()

    def _look(self, at: float) -> None:
        """Look for providers; take what was kept where there is one, or no more room."""
        age = (at - self._entered_at) / 2
        self._early_until = at + min(_LOOK_CAP_SECONDS, max(_LOOK_FIRST_SECONDS, age))
        self._waiting = self._nobody_listens()
        if not self._waiting or len(self._early) >= _EARLY_FACTS:
            self._take_early()

    def _take_early(self) -> None:
        while self._early:
            self._take(*self._early.popleft())

    def _take(self, fact: Fact, changed: StageChanged | None) -> None:
        if self._recorder is None or self._metrics is None:
            return
        self._metrics.observed(fact, changed)
        episode = self._recorder.observed(fact, changed)
        if episode is not None:
            self._ended(episode)
        elif self._startup is not None or self._later:
            self._write_all()

    def _ended(self, episode: Episode) -> None:
        startup = episode.name is EpisodeName.STARTUP
        if startup:
            self._startup = episode
        else:
            self._later.append(episode)
        self._write_all()
        root = self._linked.get("startup") if startup else None
        if self._metrics is not None:
            self._metrics.ended(episode, root)
        if startup and episode.outcome == Stage.DEGRADED:
            self._flush()  # a platform may well end a process whose start has failed

    def _write_all(self) -> None:
        """Write all that is finished, oldest first, where there is somebody to take it."""
        if self._waiting or (self._startup is None and not self._later):
            return
        if (tracer := self._tracer()) is None:
            return
        if self._startup is not None:
            startup, self._startup = self._startup, None
            self._linked = {}
            self._linked["startup"] = self._write(tracer, startup)
        while self._later:
            self._linked["previous"] = self._write(tracer, self._later.popleft())

    def _write(self, tracer: Tracer, episode: Episode) -> SpanContext:
        if self._traces is None:
            return trace.INVALID_SPAN_CONTEXT
        root: Span = self._traces.write(tracer, episode, self._linked)
        if self._event_log is not None:
            inside = set_span_in_context(root, Context())
            self._event_log.write(episode, self._traces.date, inside)
        written = root.get_span_context()
        if written.is_valid and written.trace_flags.sampled:
            _log_trace(episode, format_trace_id(written.trace_id))
        return written

    def _tracer(self) -> Tracer | None:
        provider = self._tracer_provider or trace.get_tracer_provider()
        if isinstance(provider, trace.ProxyTracerProvider) and (
            self._event_log is None or not self._event_log.has_provider
        ):
            return None
        if self._made is None or self._made[0] is not provider:
            tracer = provider.get_tracer("startup-orchestrator", __version__, _SCHEMA_URL)
            self._made = provider, tracer
        return self._made[1]

    def _nobody_listens(self) -> bool:
        metrics_unset = self._metrics is None or is_unset_meter_provider(self._metrics.provider)
        return metrics_unset and self._tracer() is None

    def _flush(self) -> None:
        providers: list[object] = [self._tracer_provider or trace.get_tracer_provider()]
        if self._metrics is not None:
            providers.append(self._metrics.provider)
        if self._event_log is not None:
            providers.append(self._event_log.provider)
        self._flusher.begin(providers)


def _log_trace(episode: Episode, trace_id: str) -> None:
    """One line for those who look for the trace, and for those who have nothing but logs."""
    seconds = episode.ended_at - episode.began_at
    logger.info(
        "trace %s: %s, %s after %.3f s",
        trace_id,
        episode.name.value,
        episode.outcome,
        seconds,
        extra={
            "trace_id": trace_id,
            "episode": episode.name.value,
            "outcome": episode.outcome,
            "elapsed_seconds": seconds,
        },
    )
