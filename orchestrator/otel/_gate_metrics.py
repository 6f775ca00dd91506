"""The metrics of gates."""

import os
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from operator import methodcaller
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from orchestrator import __version__
from orchestrator._gate.metrics import GateFigures, GateMetrics
from orchestrator._gate.refusals import APPLICATION_ERROR
from orchestrator.otel._machine_metrics import is_unset_meter_provider
from orchestrator.otel._providers import SCHEMA_URL

_HELD_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30)
"""From a loop that is only busy to the longest that clients wait for an answer."""

_EARLY_MEASUREMENTS = 1024
"""The waits that are kept for a meter provider that is set late; the oldest go first."""

_OUTCOME: Final = "orchestrator.outcome"
_CLOSE_CODE: Final = "orchestrator.websocket.close_code"

_ALWAYS_SHOWN: Final = ("1011", APPLICATION_ERROR)
"""These read 0 from the beginning: an alert on their rate must not miss the first ones."""


class OpenTelemetryGateMetrics(GateMetrics):
    """Measures the gates that are given it: `ReadinessGate(app, startup, metrics=...)`.

    - `orchestrator.gate.admissions`: a counter of requests by `orchestrator.outcome`: `admitted`,
      `refused`, `left`, `overflow`, `timed_out`.
    - `orchestrator.gate.held`: how many are held now.
    - `orchestrator.gate.held.duration`: a histogram of how long each was held, in seconds, by
      outcome; its count is how many were held at all.
    - `orchestrator.websocket.closes`: a counter of the closes that the application caused, by
      `orchestrator.websocket.close_code`; `application_error` counts handlers that raised.

    Counters are read when they are exported, so a request costs nothing more. One object may
    measure several gates, and shows their sums. Make one for each meter provider.

    Args:
        meter_provider: Where metrics go; the global provider, once it is set, if not given.
    """

    def __init__(self, meter_provider: MeterProvider | None = None) -> None:
        self._gates: list[GateFigures] = []
        self._early: deque[tuple[float, str]] = deque(maxlen=_EARLY_MEASUREMENTS)
        self._provider = meter_provider
        # Before the application sets the global provider, the API makes stand-ins that become real
        # instruments then, and measure nothing until then.
        meter = (meter_provider or metrics.get_meter_provider()).get_meter(
            "startup-orchestrator", __version__, schema_url=SCHEMA_URL
        )
        _forget_at_fork(self)
        meter.create_observable_counter(
            "orchestrator.gate.admissions",
            [self._admissions],
            "{request}",
            "Requests at the gate, by what became of them.",
        )
        meter.create_observable_up_down_counter(
            "orchestrator.gate.held", [self._held], "{request}", "Requests that are held now."
        )
        self._held_duration = meter.create_histogram(
            "orchestrator.gate.held.duration",
            "s",
            "How long held requests waited, by what became of them.",
            explicit_bucket_boundaries_advisory=_HELD_BUCKETS,
        )
        meter.create_observable_counter(
            "orchestrator.websocket.closes",
            [self._closes],
            "{close}",
            "WebSocket closes that the application caused, by code.",
        )

    def watch(self, figures: GateFigures) -> None:
        """Count this gate too."""
        self._gates.append(figures)

    def held_for(self, seconds: float, outcome: str) -> None:
        """Measure a wait, or keep it for a provider that is still to come."""
        self._early.append((seconds, outcome))
        if not is_unset_meter_provider(self._provider or metrics.get_meter_provider()):
            self._measure_early()

    def _measure_early(self) -> None:
        while self._early:
            try:
                seconds, outcome = self._early.popleft()
            except IndexError:
                return  # the exporter's thread was quicker
            self._held_duration.record(seconds, {_OUTCOME: outcome})

    def forget_used(self) -> None:
        """In a forked process: what its parent's gates have counted is the parent's to tell."""
        self._gates = [gate for gate in self._gates if not any(gate.admissions().values())]
        self._early.clear()

    # -- called by the exporter, in its own thread -------------------------------------------------

    def _admissions(self, _: CallbackOptions) -> Iterator[Observation]:
        self._measure_early()
        for outcome, number in _sum(map(methodcaller("admissions"), self._gates)).items():
            yield Observation(number, {_OUTCOME: outcome})

    def _held(self, _: CallbackOptions) -> Iterator[Observation]:
        yield Observation(sum(gate.held for gate in self._gates))

    def _closes(self, _: CallbackOptions) -> Iterator[Observation]:
        shown = dict.fromkeys(_ALWAYS_SHOWN, 0)
        closes = [gate.websocket_closes() for gate in self._gates]
        for code, number in _sum([shown, *closes]).items():
            yield Observation(number, {_CLOSE_CODE: code})


def _forget_at_fork(gate_metrics: OpenTelemetryGateMetrics) -> None:
    if hasattr(os, "register_at_fork"):
        itself = weakref.ref(gate_metrics)

        def forked() -> None:
            if (found := itself()) is not None:
                found.forget_used()

        os.register_at_fork(after_in_child=forked)


def _sum(parts: Iterable[Mapping[str, int] | Mapping[int | str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for part in parts:
        for name, number in part.items():
            sums[str(name)] = sums.get(str(name), 0) + number
    return sums
