"""What the gate has counted, and who gets it."""

from collections import Counter
from collections.abc import Callable

from orchestrator._gate.hold_queue import Outcome
from orchestrator._gate.metrics import GateFigures, GateMetrics
from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._hardening.guard import CallGuard
from states._records import mutable_record

_MOST_CODES = 64
"""An application that invents close codes must not make the counter grow for ever."""

OTHER_CODES = "other"
"""Counts the closes beyond the first `_MOST_CODES` distinct codes."""


@mutable_record
class AdmissionCounts:
    """How many requests had which outcome. Every request has one; `held` counts besides.

    Attributes:
        admitted: The application got them, at once or after being held.
        refused: Turned away because of the stage, or because the service stops.
        left: The client gave up while it was held.
        overflow: Turned away because too many were held already.
        timed_out: Turned away after being held for as long as allowed.
        held: How many were held at all, whatever their outcome.
    """

    admitted: int = 0
    refused: int = 0
    left: int = 0
    overflow: int = 0
    timed_out: int = 0
    held: int = 0


class GateStats:
    """Counts, and calls the hooks. What a hook raises is logged once and counted.

    Args:
        on_admission: Called with the outcome of each request.
        on_close: Called with each close code that the application causes.
        metrics: Gets how long each held request waited; it reads the rest by itself.

    Attributes:
        has_hook: Whether anyone listens to each admission.
    """

    def __init__(
        self,
        on_admission: Callable[[str], object] | None,
        on_close: Callable[[int | str], object] | None,
        metrics: GateMetrics | None,
    ) -> None:
        for name, hook in (("on_admission", on_admission), ("on_close", on_close)):
            if hook is not None and not callable(hook):
                raise wrong_type(hook, name, "a function", "do not call it yourself")
        if metrics is not None:
            require(metrics, GateMetrics, "metrics", "give an instance of a subclass")
        self.counts: AdmissionCounts = AdmissionCounts()
        self.closes: Counter[int | str] = Counter()
        self.has_hook: bool = on_admission is not None
        self._on_admission = on_admission
        self._on_close = on_close
        self._metrics = metrics
        hooks = {"on_admission": on_admission, "on_close": on_close, "metrics": metrics}
        self._guards = {name: CallGuard(name, hook) for name, hook in hooks.items()}

    def watched_by_metrics(self, figures: GateFigures) -> None:
        """Let the metrics read the figures from now on."""
        if self._metrics is not None:
            self._guards["metrics"].call(self._metrics.watch, figures)

    def held_for(self, seconds: float, outcome: Outcome) -> None:
        """A held request's wait has ended."""
        if self._metrics is not None:
            self._guards["metrics"].call(self._metrics.held_for, seconds, outcome.value)

    def count_admission(self, outcome: Outcome) -> None:
        """A request has this outcome."""
        counts, name = self.counts, outcome.value
        setattr(counts, name, getattr(counts, name) + 1)
        self.call_hook(outcome)

    def call_hook(self, outcome: Outcome) -> None:
        """Call the hook, for an outcome that is counted already."""
        if self._on_admission is not None:
            self._guards["on_admission"].call(self._on_admission, outcome.value)

    def count_close(self, code: int | str) -> None:
        """The application closed a WebSocket with this code."""
        if code not in self.closes and len(self.closes) >= _MOST_CODES:
            code = OTHER_CODES
        self.closes[code] += 1
        if self._on_close is not None:
            self._guards["on_close"].call(self._on_close, code)

    def sum_up(self) -> None:
        """The gate has stopped: say how often the hooks have raised."""
        for guard in self._guards.values():
            guard.sum_up()
