"""What one orchestrator writes: its episodes as traces, and its metrics. Not on the event loop."""

import logging
from collections import deque

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, Tracer, format_trace_id, set_span_in_context

from orchestrator import __version__
from orchestrator._ports import StartupContext
from orchestrator.otel._episode import Episode, EpisodeName
from orchestrator.otel._flush import Flusher
from orchestrator.otel._metrics import MetricsWriter
from orchestrator.otel._providers import Providers
from orchestrator.otel._recorder import Recorder
from orchestrator.otel._trace import TraceWriter
from states import Fact, Stage, StageChanged

logger = logging.getLogger("orchestrator")

_LATER_EPISODES = 8
"""The episodes after the start-up that wait for a tracer provider; the oldest go first."""


class Writer:
    """Takes the facts of one orchestrator, and writes each episode when it has ended.

    Args:
        context: What the observer was told at the start.
        parent: The parent of the start-up's trace.
        providers: Where everything goes.
        span_events: Whether changes of stage are events of the root span.
    """

    def __init__(
        self, context: StartupContext, parent: Context, providers: Providers, *, span_events: bool
    ) -> None:
        self._providers = providers
        self._recorder = Recorder(context)
        self._traces = TraceWriter(context, parent, span_events=span_events)
        self._metrics = MetricsWriter(context, providers.given_meters, __version__)
        self._flusher = Flusher()
        self._startup: Episode | None = None
        self._later: deque[Episode] = deque(maxlen=_LATER_EPISODES)
        self._linked: dict[str, SpanContext] = {}

    @property
    def trace_id(self) -> str | None:
        """The trace of the start-up; `None` until it was written. Any thread may ask."""
        root = self._linked.get("startup")
        return format_trace_id(root.trace_id) if root is not None and root.is_valid else None

    def take(self, fact: Fact, changed: StageChanged | None) -> None:
        """Record a fact; write the trace of an episode that it ended."""
        self._metrics.observed(fact, changed)
        episode = self._recorder.observed(fact, changed)
        if episode is not None:
            self._ended(episode)

    def write_finished(self) -> None:
        """Write all that is finished, oldest first, where there is somebody to take it."""
        if self._startup is None and not self._later:
            return
        if (tracer := self._providers.tracer()) is None:
            return
        if self._startup is not None:
            startup, self._startup = self._startup, None
            self._linked = {"startup": self._write(tracer, startup)}
        while self._later:
            self._linked["previous"] = self._write(tracer, self._later.popleft())

    def stop(self, at: float) -> None:
        """End what is not finished, write what waits, and send it; bounded in time."""
        episode = self._recorder.stopped(at)
        if episode is not None:
            self._ended(episode)
        else:
            self.write_finished()
        self._metrics.stopped()
        self._flusher.begin(self._providers.all())
        self._flusher.wait()

    def _ended(self, episode: Episode) -> None:
        startup = episode.name is EpisodeName.STARTUP
        if startup:
            self._startup = episode
        else:
            self._later.append(episode)
        self.write_finished()
        self._metrics.ended(episode, self._linked.get("startup") if startup else None)
        if startup and episode.outcome == Stage.DEGRADED:
            # A platform may well end a process whose start has failed.
            self._flusher.begin(self._providers.all())

    def _write(self, tracer: Tracer, episode: Episode) -> SpanContext:
        root: Span = self._traces.write(tracer, episode, self._linked)
        if (events := self._providers.events) is not None:
            inside = set_span_in_context(root, Context())
            events.write(episode, self._traces.date, inside)
        written = root.get_span_context()
        if written.is_valid and written.trace_flags.sampled:
            _log_trace(episode, format_trace_id(written.trace_id))
        return written if written.is_valid else trace.INVALID_SPAN_CONTEXT


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
