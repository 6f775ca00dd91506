"""The metrics of the machine, in the units and with the buckets that seconds need."""

from collections import deque
from typing import NamedTuple

from opentelemetry import metrics
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider, UpDownCounter
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context
from opentelemetry.util.types import AttributeValue

from orchestrator._ports import KeptFact, KeptStep, StartupContext
from orchestrator.otel._condition_metrics import ConditionMetrics
from orchestrator.otel._episode import Episode, EpisodeName
from orchestrator.otel._targets import target_attributes
from states import Fact, ProbeFailed, ProbeSucceeded, Stage, StageChanged

_STAGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 240)
"""Up to the longest that a platform waits for a start-up."""

_PROBE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""From a PING on the same machine to an attempt that timed out."""

_LAG_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""From an idle event loop to one that is blocked."""

_EARLY_FACTS = 256
"""The facts that are kept for a meter provider that is set late; the oldest go first."""

_NO_SPAN = Context()
"""A span that happens to be current is no exemplar of a start-up."""

Attributes = dict[str, AttributeValue]

_measured = False


def has_measured() -> bool:
    """Whether an orchestrator was measured in this process, or in one that it was forked from."""
    return _measured


class Instruments(NamedTuple):
    """One instrument for each metric, named by the last parts of its name."""

    startup_duration: Histogram
    drain_duration: Histogram
    stage_duration: Histogram
    probe_duration: Histogram
    loop_lag: Histogram
    transitions: Counter
    stage: UpDownCounter


def make_instruments(meter: Meter) -> Instruments:
    """Create the instruments."""

    def seconds(name: str, description: str, buckets: tuple[float, ...]) -> Histogram:
        return meter.create_histogram(
            name, "s", description, explicit_bucket_boundaries_advisory=buckets
        )

    return Instruments(
        startup_duration=seconds(
            "orchestrator.startup.duration",
            "From the start of the process to the first ready or degraded.",
            _STAGE_BUCKETS,
        ),
        drain_duration=seconds(
            "orchestrator.drain.duration",
            "From the beginning of a drain until the orchestrator was left.",
            _STAGE_BUCKETS,
        ),
        stage_duration=seconds(
            "orchestrator.stage.duration", "How long each stay in a stage lasted.", _STAGE_BUCKETS
        ),
        probe_duration=seconds(
            "orchestrator.probe.duration",
            "How long an attempt took, without the event loop's lag.",
            _PROBE_BUCKETS,
        ),
        loop_lag=seconds(
            "orchestrator.probe.loop_lag",
            "How long the result of an attempt waited for the event loop.",
            _LAG_BUCKETS,
        ),
        transitions=meter.create_counter(
            "orchestrator.stage.transitions", "{transition}", "Changes of stage."
        ),
        # An up-down counter, as the semantic conventions have it for states: every SDK goes on
        # exporting its last value, which some do not for a synchronous gauge.
        stage=meter.create_up_down_counter(
            "orchestrator.stage", "{stage}", "1 for the current stage, 0 for every other."
        ),
    )


class MetricsWriter:
    """Measures facts. Until there is a meter provider, it keeps a bounded number of them.

    Args:
        context: What the observer got at the start.
        provider: Where the metrics go; the global one, once it is set, if not given.
        version: The version of the instrumentation scope.
        schema_url: That of its attributes.
    """

    def __init__(
        self,
        context: StartupContext,
        provider: MeterProvider | None,
        version: str,
        schema_url: str,
    ) -> None:
        self._provider = provider
        self._version = version
        self._schema_url = schema_url
        self._instruments: Instruments | None = None
        self._early: deque[tuple[Fact | KeptFact, StageChanged | None]] = deque(maxlen=_EARLY_FACTS)
        self._startup: tuple[Episode, Context] | None = None
        self._stage: Stage | None = Stage.BOOTING
        self._probe = target_attributes(context.target)
        self._conditions = ConditionMetrics(context.conditions)

    @property
    def provider(self) -> MeterProvider:
        """Where the metrics go at this moment."""
        return self._provider or metrics.get_meter_provider()

    def measure(self, fact: Fact | KeptFact, changed: StageChanged | None) -> None:
        """Measure a fact."""
        if not isinstance(fact, KeptFact):
            self._conditions.update(fact)
        if (instruments := self._instruments) is None:
            if _is_measured(fact, changed):
                self._early.append((fact, changed))
            if changed is not None:
                self._stage = changed.current
            self._resolve()
            return
        self._record(instruments, fact, changed)
        if changed is not None:
            self._stage = changed.current
            instruments.stage.add(-1, {"orchestrator.stage": changed.previous.value}, _NO_SPAN)
            instruments.stage.add(1, {"orchestrator.stage": changed.current.value}, _NO_SPAN)

    def ended(self, episode: Episode, root: SpanContext | None) -> None:
        """Measure a start-up or a drain that has ended.

        Args:
            episode: What has ended.
            root: The root of its trace, for an exemplar; `None` where it is not written.
        """
        if episode.name not in (EpisodeName.STARTUP, EpisodeName.SHUTDOWN):
            return
        context = _NO_SPAN
        if root is not None:
            context = set_span_in_context(NonRecordingSpan(root), context)
        if episode.name is EpisodeName.SHUTDOWN:
            if (instruments := self._resolve()) is not None:
                seconds = episode.ended_at - episode.began_at
                instruments.drain_duration.record(seconds, context=context)
            return
        self._startup = episode, context
        if (instruments := self._resolve()) is not None:
            self._measure_startup(instruments)

    def stopped(self) -> None:
        """No stage is current any more."""
        instruments = self._resolve()
        if instruments is not None and self._stage is not None:
            instruments.stage.add(-1, {"orchestrator.stage": self._stage.value}, _NO_SPAN)
        self._stage = None
        self._conditions.stopped()

    def _record(
        self, instruments: Instruments, fact: Fact | KeptFact, changed: StageChanged | None
    ) -> None:
        if isinstance(fact, KeptFact):
            self._conditions.measure(fact)
            return
        if isinstance(fact, ProbeSucceeded | ProbeFailed):
            attributes = self._probe
            if isinstance(fact, ProbeFailed):
                attributes = attributes | {"error.type": fact.failure.error_type}
            instruments.probe_duration.record(fact.latency_seconds, attributes, _NO_SPAN)
            instruments.loop_lag.record(fact.loop_lag_seconds, context=_NO_SPAN)
        if changed is not None:
            previous, current = changed.previous.value, changed.current.value
            instruments.stage_duration.record(
                changed.elapsed_seconds, {"orchestrator.stage": previous}, _NO_SPAN
            )
            instruments.transitions.add(
                1,
                {"orchestrator.stage.from": previous, "orchestrator.stage.to": current},
                _NO_SPAN,
            )

    def _measure_startup(self, instruments: Instruments) -> None:
        if self._startup is None:
            return
        episode, context = self._startup
        self._startup = None
        attributes: Attributes = {"orchestrator.outcome": episode.outcome}
        if episode.error_type:
            attributes["error.type"] = episode.error_type
        seconds = episode.ended_at - episode.began_at
        # The SDK makes an exemplar of it where the span in the context is sampled.
        instruments.startup_duration.record(seconds, attributes, context)

    def _resolve(self) -> Instruments | None:
        """The instruments, as soon as there is a provider to make them."""
        if self._instruments is not None:
            return self._instruments
        if is_unset_meter_provider(self.provider):
            return None
        global _measured  # noqa: PLW0603  it is about the process, and only ever becomes true
        _measured = True
        meter = self.provider.get_meter(
            "startup-orchestrator", self._version, schema_url=self._schema_url
        )
        self._instruments = instruments = make_instruments(meter)
        for stage in Stage:  # so that every stage has a series from the beginning
            current = stage is self._stage
            instruments.stage.add(int(current), {"orchestrator.stage": stage.value}, _NO_SPAN)
        self._conditions.begin(meter)
        while self._early:
            self._record(instruments, *self._early.popleft())
        self._measure_startup(instruments)
        return instruments


def _is_measured(fact: Fact | KeptFact, changed: StageChanged | None) -> bool:
    """Whether something is measured of it besides the current state."""
    if isinstance(fact, KeptFact):
        return fact.step not in (KeptStep.BEGAN, KeptStep.DOWN)
    return changed is not None or isinstance(fact, ProbeSucceeded | ProbeFailed)


def is_unset_meter_provider(provider: MeterProvider) -> bool:
    """Whether this stands in for a provider that has not been set yet."""
    # The API has a public name for the tracer's stand-in, but none for this one.
    return type(provider).__name__ == "_ProxyMeterProvider"
