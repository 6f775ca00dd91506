"""The metrics of the machine, in the units and with the buckets that seconds need."""

from collections import deque
from typing import NamedTuple

from opentelemetry import metrics
from opentelemetry.metrics import Counter, Histogram, Meter, MeterProvider, UpDownCounter
from opentelemetry.util.types import AttributeValue

from orchestrator._ports import StartupContext
from orchestrator.otel._episode import Episode, EpisodeName
from orchestrator.otel._trace import target_attributes
from states import Fact, ProbeFailed, ProbeSucceeded, Stage, StageChanged

_STAGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 90, 120, 240)
"""Up to the longest that a platform waits for a start-up."""

_PROBE_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""From a PING on the same machine to an attempt that timed out."""

_LAG_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""From an idle event loop to one that somebody blocks."""

_EARLY_MEASUREMENTS = 256
"""The measurements that are kept for a meter provider that is set late; the oldest go first."""

Attributes = dict[str, AttributeValue]


class Instruments(NamedTuple):
    """One instrument for each metric, named by the last parts of its name."""

    startup_duration: Histogram
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
    """Measures facts. Until there is a meter provider, it keeps a bounded number of measurements.

    Args:
        context: What the observer was told at the start.
        provider: Where the metrics go; the global one, once it is set, if not given.
        version: The version of the instrumentation scope.
    """

    def __init__(
        self, context: StartupContext, provider: MeterProvider | None, version: str
    ) -> None:
        self._provider = provider
        self._version = version
        self._instruments: Instruments | None = None
        self._early: deque[tuple[str, float, Attributes]] = deque(maxlen=_EARLY_MEASUREMENTS)
        self._stage: Stage | None = Stage.BOOTING
        self._probe = target_attributes(context.target)
        self._resolve()

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Measure a fact."""
        self._resolve()
        if isinstance(fact, ProbeSucceeded | ProbeFailed):
            attributes = self._probe
            if isinstance(fact, ProbeFailed):
                attributes = attributes | {"error.type": fact.failure.error_type}
            self._record("probe_duration", fact.latency_seconds, attributes)
            self._record("loop_lag", fact.loop_lag_seconds, {})
        if changed is not None:
            self._changed(changed)

    def ended(self, episode: Episode) -> None:
        """Measure a start-up that has ended."""
        if episode.name is EpisodeName.STARTUP:
            attributes: Attributes = {"orchestrator.outcome": episode.outcome}
            if episode.error_type:
                attributes["error.type"] = episode.error_type
            self._resolve()
            self._record("startup_duration", episode.ended_at - episode.began_at, attributes)

    def stopped(self) -> None:
        """No stage is current any more."""
        instruments = self._resolve()
        if instruments is not None and self._stage is not None:
            instruments.stage.add(-1, {"orchestrator.stage": self._stage.value})
        self._stage = None

    def _changed(self, changed: StageChanged) -> None:
        previous, current = changed.previous.value, changed.current.value
        self._record("stage_duration", changed.elapsed_seconds, {"orchestrator.stage": previous})
        self._record(
            "transitions",
            1,
            {"orchestrator.stage.from": previous, "orchestrator.stage.to": current},
        )
        self._stage = changed.current
        if (instruments := self._instruments) is not None:
            instruments.stage.add(-1, {"orchestrator.stage": previous})
            instruments.stage.add(1, {"orchestrator.stage": current})

    def _record(self, name: str, value: float, attributes: Attributes) -> None:
        if (instruments := self._instruments) is None:
            self._early.append((name, value, attributes))
        else:
            _measure(instruments, name, value, attributes)

    def _resolve(self) -> Instruments | None:
        """The instruments, as soon as there is a provider to make them."""
        if self._instruments is not None:
            return self._instruments
        provider = self._provider or metrics.get_meter_provider()
        if is_unset_meter_provider(provider):
            return None
        meter = provider.get_meter("startup-orchestrator", self._version)
        self._instruments = instruments = make_instruments(meter)
        for stage in Stage:  # so that every stage has a series from the beginning
            current = stage is self._stage
            instruments.stage.add(int(current), {"orchestrator.stage": stage.value})
        while self._early:
            _measure(instruments, *self._early.popleft())
        return instruments


def _measure(instruments: Instruments, name: str, value: float, attributes: Attributes) -> None:
    instrument = getattr(instruments, name)
    if isinstance(instrument, Histogram):
        instrument.record(value, attributes)
    else:
        instrument.add(value, attributes)


def is_unset_meter_provider(provider: MeterProvider) -> bool:
    """Whether this stands in for a provider that nobody has set yet."""
    # The API has a public name for the tracer's stand-in, but none for this one.
    return type(provider).__name__ == "_ProxyMeterProvider"
