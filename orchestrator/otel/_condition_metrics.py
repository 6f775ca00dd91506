"""The metrics of conditions: whether each holds, what its check takes, how often its task fails."""

from collections.abc import Mapping
from typing import NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter, UpDownCounter
from opentelemetry.util.types import AttributeValue

from orchestrator._ports import KeptFact, KeptStep
from states import ConditionChanged, Fact, ProbeFailed

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""From an answer of the same machine to an attempt that timed out."""

_NAME = "orchestrator.condition.name"
_NO_SPAN = Context()


class _ConditionInstruments(NamedTuple):
    condition: UpDownCounter
    duration: Histogram
    restarts: Counter


class ConditionMetrics:
    """Measures conditions. Until there is a meter, it knows which hold and measures nothing.

    Args:
        conditions: The declared conditions, and whether each is required.
    """

    def __init__(self, conditions: Mapping[str, bool]) -> None:
        self._attributes: dict[str, dict[str, AttributeValue]] = {
            name: {_NAME: name, "orchestrator.condition.required": required}
            for name, required in conditions.items()
        }
        self._holding: set[str] = set()
        self._instruments: _ConditionInstruments | None = None

    def begin(self, meter: Meter) -> None:
        """There is a meter: show every condition as it is."""
        # An up-down counter, as for the stages.
        self._instruments = _ConditionInstruments(
            meter.create_up_down_counter(
                "orchestrator.condition", "{condition}", "1 while the condition holds, 0 otherwise."
            ),
            meter.create_histogram(
                "orchestrator.check.duration",
                "s",
                "How long an attempt of a check took, without the event loop's lag.",
                explicit_bucket_boundaries_advisory=_BUCKETS,
            ),
            meter.create_counter(
                "orchestrator.task.restarts", "{restart}", "Tasks that were started again."
            ),
        )
        for name in self._attributes:
            self._add(name, int(name in self._holding))

    def update(self, fact: Fact) -> None:
        """Take over the state of a condition that changed."""
        if not isinstance(fact, ConditionChanged):
            return
        if fact.satisfied != (fact.name in self._holding):
            (self._holding.add if fact.satisfied else self._holding.discard)(fact.name)
            self._add(fact.name, 1 if fact.satisfied else -1)

    def measure(self, fact: KeptFact) -> None:
        """Measure what happened inside of a condition; called once there is a meter."""
        if (instruments := self._instruments) is None:
            return
        attributes: dict[str, AttributeValue] = {_NAME: fact.name}
        if fact.attempt is not None:
            if isinstance(fact.attempt, ProbeFailed):
                attributes["error.type"] = fact.attempt.failure.error_type
            instruments.duration.record(fact.attempt.latency_seconds, attributes, _NO_SPAN)
        elif fact.step in (KeptStep.STARTED, KeptStep.RESTARTED):
            # 0 for the first start: an alert on what it gained must not miss the first restart.
            restarted = int(fact.step is KeptStep.RESTARTED)
            instruments.restarts.add(restarted, attributes, _NO_SPAN)

    def stopped(self) -> None:
        """No condition holds any more."""
        while self._holding:
            self._add(self._holding.pop(), -1)

    def _add(self, name: str, amount: int) -> None:
        if self._instruments is not None:
            self._instruments.condition.add(amount, self._attributes[name], _NO_SPAN)
