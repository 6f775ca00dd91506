"""The observer that has traces, events and metrics written.

A fact goes through five files. The driver calls `OpenTelemetryObserver.observed`, which only notes
it. A thread (`_write_loop.py`) has `EpisodeWriter.write_noted` (`_writer.py`) take what was noted.
The `Recorder` (`_recorder.py`) says which episode a fact ends, and why that failed; `TraceWriter`
(`_trace.py`) makes its spans.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from threading import Event
from time import time_ns
from typing import TYPE_CHECKING, get_args

import anyio
import anyio.lowlevel
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider

from orchestrator import __version__
from orchestrator._ports import KeptFact, Observer, StartupContext
from orchestrator.otel._log_events import EventLog, Events
from orchestrator.otel._providers import SCHEMA_URL, Providers
from orchestrator.otel._trace import parent_context
from orchestrator.otel._write_loop import WriteLoop
from orchestrator.otel._writer import EpisodeWriter, Stop, ToWrite
from states import Fact, Missing, Stage, StageChanged

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider

_MANY_FACTS = 512
"""The facts that are kept as they are. More are made into episodes, which are smaller and bounded,
even if nothing takes them; most processes without a provider never get there."""

_MOST_FACTS = 8192
"""More are not kept for a writer that hangs, in an exporter of the application: the oldest go."""

_LATE_SECONDS = 1.0
"""How long a fact that ends nothing may wait to be measured."""

_LOOK_CAP_SECONDS = 30.0
"""How rarely to look for a provider that is set late, in the end: looking costs more than keeping a
fact."""

_LEAVING_SECONDS = 1.0
"""The writer itself waits for the collector for less than that."""

_POLL_SECONDS = 0.01
"""How often to check whether it has finished."""

_ENDS_EPISODE = (Stage.READY, Stage.DEGRADED)


class OpenTelemetryObserver(Observer):
    """Writes a trace for the start-up and for each later fall and recovery, and metrics.

    A trace is written when its episode ends: the start-up at the first ready or degraded, or when
    the orchestrator is left. So providers may be set at any time before that, or after it: what is
    finished waits, bounded, until the next fact. No span is ever made current. For each trace that
    was written, and not sampled out, one line is logged with its id.

    Facts are only noted on the event loop; a thread of its own writes them within 0.05 s of an
    episode's end, and within 1 s and the next fact otherwise. A start-up that failed is written and
    sent at once. When the orchestrator is left, all that the providers hold is sent, and waited for
    up to 0.6 s without blocking the loop: many servers end the process right after that.

    The environment variable `TRACEPARENT` (W3C Trace Context) names a parent for the start-up, such
    as a deployment's trace.

    Args:
        tracer_provider: Where spans go; the global provider if not given.
        meter_provider: Where metrics go; the global provider if not given.
        logger_provider: Where log events go; the global provider if not given.
        events: Where changes of stage are recorded: `span` for span events on the root, `log` for
            log events that belong to it, or `both`.

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
        log = None if events == "span" else EventLog(logger_provider, __version__, SCHEMA_URL)
        self._providers = Providers(tracer_provider, meter_provider, log)
        self._span_events = events != "log"
        self._writer: EpisodeWriter | None = None
        self._loop: WriteLoop | None = None
        self._noted: deque[ToWrite] = deque()
        self._waits_for: Callable[[], Sequence[Missing]] = tuple
        self._due_at = 0.0
        self._entered_at = 0.0
        self._in_startup = True
        self._waiting = True
        self._over = False
        self._observing_in = 0  # the process

    @property
    def trace_id(self) -> str | None:
        """The trace of the start-up, as 32 hexadecimal digits; `None` until it was written."""
        return self._writer.trace_id if self._writer is not None else None

    def started(self, context: StartupContext) -> None:
        """Begin the start-up's episode; nothing is written for a disabled orchestrator.

        Raises:
            RuntimeError: When it observes an orchestrator that is still running.
        """
        if self._observing_in == os.getpid():
            raise RuntimeError(
                "this OpenTelemetryObserver observes a running orchestrator already; give each"
                " orchestrator one of its own"
            )
        self._loop = None
        if not context.enabled:
            return
        self._noted = deque(maxlen=_MOST_FACTS)
        self._waits_for = context.waits_for
        parent, providers = parent_context(os.environ), self._providers
        self._writer = EpisodeWriter(
            context, self._noted, parent, providers, span_events=self._span_events
        )
        self._loop = WriteLoop(self._writer.write_noted)
        self._entered_at = context.now_at
        # The first fact is measured soon: a loop that hangs from then on is seen in its stage.
        self._due_at = context.now_at
        self._in_startup = True
        self._over, self._observing_in = False, os.getpid()
        self._waiting = self._providers.nobody_listens

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Note a fact, and have it written where it is time for that."""
        self._note(fact, changed)

    def kept(self, fact: KeptFact) -> None:
        """The same for what happens inside of checks and tasks."""
        self._note(fact, None)

    def _note(self, fact: Fact | KeptFact, changed: StageChanged | None) -> None:
        if self._loop is None or self._over:
            return
        noted = self._noted
        noted.append((fact, changed, time_ns()))
        outcome = None if changed is None else changed.current
        ended = outcome in _ENDS_EPISODE
        if self._waiting:
            # A start-up's trace is to be seen as soon as it can be.
            if (ended and self._in_startup) or fact.at >= self._due_at or len(noted) >= _MANY_FACTS:
                self._look(fact.at, failed=self._in_startup and outcome is Stage.DEGRADED)
        elif ended or fact.at >= self._due_at or len(noted) >= _MANY_FACTS:
            self._due_at = fact.at + _LATE_SECONDS
            if self._in_startup and outcome is Stage.DEGRADED:
                self._loop.hurry()
            else:
                self._loop.wake()
        if ended:
            self._in_startup = False

    def stopped(self, at: float) -> None:
        """Have what is not finished ended, and all of it written and sent."""
        loop, self._observing_in = self._loop, 0
        if loop is None:
            return
        self._waiting = self._providers.nobody_listens
        if loop.begun or not self._waiting:
            self._noted.append(Stop(at, self._waits_for()))
            self._over = True
            loop.hurry()

    async def aclose(self) -> None:
        """Wait until all is sent, for up to 0.6 s; the event loop goes on meanwhile."""
        if self._loop is None or not self._loop.begun:
            await anyio.lowlevel.checkpoint()
            return
        # No thread waits for it: Python 3.12 starts none while it ends.
        deadline = anyio.current_time() + _LEAVING_SECONDS
        while not self._loop.join(0.0) and anyio.current_time() < deadline:  # noqa: ASYNC110  a thread
            await anyio.sleep(_POLL_SECONDS)

    def wait_until_written(self, timeout_seconds: float) -> bool:
        """Block until all that was observed so far is written; return whether it is.

        For tests, in the thread of the event loop; and for any thread once the loop has ended.
        Without a provider there is nothing to wait for. Once the orchestrator was left, it waits
        until all is sent.
        """
        loop = self._loop
        if loop is None or self._over:
            return loop is None or loop.join(timeout_seconds)
        self._waiting = self._providers.nobody_listens
        if self._waiting and not loop.begun:
            return True
        written = Event()
        self._noted.append(written)
        loop.hurry()
        return written.wait(timeout_seconds)

    def _look(self, at: float, *, failed: bool) -> None:
        """Look for providers; write what was kept where there is one, or no more room."""
        age = (at - self._entered_at) / 2
        self._due_at = at + min(_LOOK_CAP_SECONDS, max(_LATE_SECONDS, age))
        self._waiting = self._providers.nobody_listens
        if self._loop is not None and (not self._waiting or len(self._noted) >= _MANY_FACTS):
            (self._loop.hurry if failed else self._loop.wake)()
