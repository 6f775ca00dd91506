"""What one orchestrator writes: its episodes as traces, and its metrics. Not on the event loop.

The observer's thread calls `EpisodeWriter.write_noted`. It hands each fact to the `Recorder`
(`_recorder.py`), and each episode that this ends to the `TraceWriter` (`_trace.py`).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from threading import Event
from typing import TypeVarTuple

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    format_trace_id,
    set_span_in_context,
)

from orchestrator import __version__
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import KeptFact, StartupContext
from orchestrator.otel._episode import Episode, EpisodeName
from orchestrator.otel._flush import Flusher
from orchestrator.otel._machine_metrics import MetricsWriter
from orchestrator.otel._providers import SCHEMA_URL, Providers
from orchestrator.otel._recorder import Recorder
from orchestrator.otel._trace import TraceWriter
from states import Fact, Missing, Stage, StageChanged
from states._records import mutable_record, record

ArgumentsT = TypeVarTuple("ArgumentsT")

_LATER_EPISODES = 8
"""The episodes after the start-up that wait for a provider; the oldest go first."""


@record
class Stop:
    """The orchestrator was left, and still waited for this."""

    at: float
    waits_for: Sequence[Missing]


_Dated = tuple[Fact | KeptFact, StageChanged | None, int]
"""A fact, the change of stage that it caused, and its date."""

ToWrite = _Dated | Stop | Event
"""A fact and its date, the end, or an event to set once all before it is written."""


@mutable_record
class _Finished:
    """An episode that has ended, and the root of its trace once that is written."""

    episode: Episode
    root: SpanContext = INVALID_SPAN_CONTEXT


class _Backlog:
    """Finished episodes that wait for the provider of one signal."""

    def __init__(self) -> None:
        self._startup: _Finished | None = None
        self._later: deque[_Finished] = deque(maxlen=_LATER_EPISODES)

    def add(self, finished: _Finished) -> None:
        if finished.episode.name is EpisodeName.STARTUP:
            self._startup = finished
        else:
            self._later.append(finished)

    def __bool__(self) -> bool:
        return self._startup is not None or bool(self._later)

    def taken(self) -> Iterator[_Finished]:
        """All of them, the oldest first; each is out before it is given."""
        startup, self._startup = self._startup, None
        if startup is not None:
            yield startup
        while self._later:
            yield self._later.popleft()


class EpisodeWriter:
    """Takes the facts of one orchestrator, and writes each episode when it has ended.

    Where one signal cannot be written, it is said once; the other signals are, and so is whatever
    comes later.

    Args:
        context: What the observer got at the start.
        noted: Where the event loop's thread notes what happens.
        parent: The parent of the start-up's trace.
        providers: Where everything goes.
        span_events: Whether changes of stage are events of the root span.
    """

    def __init__(
        self,
        context: StartupContext,
        noted: deque[ToWrite],
        parent: Context,
        providers: Providers,
        *,
        span_events: bool,
    ) -> None:
        self._noted = noted
        self._providers = providers
        self._recorder = Recorder(context)
        self._traces = TraceWriter(context, parent, span_events=span_events)
        self._metrics = MetricsWriter(context, providers.given_meters, __version__, SCHEMA_URL)
        self._flusher = Flusher()
        self._untraced, self._unlogged = _Backlog(), _Backlog()
        self._linked: dict[str, SpanContext] = {}
        self._failed: set[str] = set()

    @property
    def trace_id(self) -> str | None:
        """The trace of the start-up; `None` until it was written. Any thread may ask."""
        root = self._linked.get("startup")
        return format_trace_id(root.trace_id) if root is not None and root.is_valid else None

    def write_noted(self) -> bool:
        """Write all that was noted so far; return whether that was the end of it."""
        over = False
        while self._noted:
            match self._noted.popleft():
                case Event() as written:
                    written.set()
                case Stop() as stop:
                    over = True
                    self._try("what was unfinished", self._stop, stop)
                case fact, changed, unix_nanoseconds:
                    self._try("a fact", self._take, fact, changed, unix_nanoseconds)
        self._write_finished()
        return over

    def _take(
        self, fact: Fact | KeptFact, changed: StageChanged | None, unix_nanoseconds: int
    ) -> None:
        """Record a fact, and write the episode that it ended."""
        self._try("metrics", self._metrics.measure, fact, changed)
        if isinstance(fact, KeptFact):
            self._recorder.record_kept(fact)
            return
        episode = self._recorder.record(fact, changed, unix_nanoseconds)
        if episode is not None:
            self._ended(episode)

    def _write_finished(self) -> None:
        """Write all that is finished, oldest first, where a provider takes it."""
        self._try("traces", self._write_traces)
        self._try("log events", self._write_events)

    def _stop(self, stop: Stop) -> None:
        """End what is not finished, write what waits, and send it; bounded in time."""
        episode = self._recorder.stopped(stop.at, stop.waits_for)
        if episode is not None:
            self._ended(episode)
        else:
            self._write_finished()
        self._try("metrics", self._metrics.stopped)
        self._flusher.begin(self._providers.all())
        self._flusher.wait()

    def _ended(self, episode: Episode) -> None:
        finished = _Finished(episode)
        self._untraced.add(finished)
        if self._providers.events is not None:
            self._unlogged.add(finished)
        self._write_finished()
        self._try("metrics", self._metrics.ended, episode, finished.root)
        if episode.name is EpisodeName.STARTUP and episode.outcome == Stage.DEGRADED:
            # A platform may well end a process whose start has failed.
            self._flusher.begin(self._providers.all())

    def _write_traces(self) -> None:
        if not self._untraced or (tracer := self._providers.tracer()) is None:
            return
        for finished in self._untraced.taken():
            episode = finished.episode
            root = self._traces.write(tracer, episode, self._linked).get_span_context()
            if episode.name is EpisodeName.STARTUP:
                self._linked = {"startup": root}
            else:
                self._linked["previous"] = root
            finished.root = root
            if root.is_valid and root.trace_flags.sampled:
                _log_trace(episode, format_trace_id(root.trace_id))

    def _write_events(self) -> None:
        events = self._providers.events
        if not self._unlogged or events is None or not events.has_provider:
            return
        for finished in self._unlogged.taken():
            # They belong to the root, where there is one by now.
            inside = set_span_in_context(NonRecordingSpan(finished.root), Context())
            events.write(finished.episode, inside)

    def _try(
        self, what: str, call: Callable[[*ArgumentsT], object], *arguments: *ArgumentsT
    ) -> None:
        try:
            call(*arguments)
        except BaseException as error:  # the thread must go on, or facts would pile up
            # It happens in what the application has set: a processor, an exporter, a sampler.
            if what not in self._failed:
                self._failed.add(what)
                logger.error(
                    "telemetry: %s could not be written; this is logged only once",
                    what,
                    error=error,
                )


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
            "stage": episode.stopped_stage or episode.outcome,
            "episode": episode.name.value,
            "outcome": episode.outcome,
            "elapsed_seconds": seconds,
        },
    )
