"""Decides each request of the WSGI gate, in the server's thread that handles it.

A held request waits in its thread; `wake` has each of them decided again.
"""

import threading
import time
from http import HTTPStatus

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.counts import GateStats
from orchestrator._gate.health_answers import HealthReport, refusal
from orchestrator._gate.hold_queue import Outcome
from orchestrator._gate.refusals import RetryAfter, reason
from orchestrator._gate.return_line import AdmissionRate, ReturnLine
from orchestrator._gate.stage_rules import StageRules
from states import Stage


class WsgiAdmission(StageRules):
    """The decisions of one gate, in one process.

    Args:
        startup: The orchestrator.
        hold_seconds: How long a request may be held.
        max_held: How many may be held at once.
        retry_after: Draws when those who are refused are asked to come back.
        stats: Counts what became of each.
        admit_degraded: Whether to admit in `degraded`, too.

    Attributes:
        held: How many are held now.
        cannot: Why every request is refused; empty if they are not.
    """

    held: int
    cannot: str

    def __init__(
        self,
        startup: Orchestrator,
        hold_seconds: float,
        max_held: int,
        retry_after: RetryAfter,
        stats: GateStats,
        *,
        admit_degraded: bool,
    ) -> None:
        super().__init__(startup, admit_degraded=admit_degraded)
        self.stats = stats
        self._hold_seconds, self._max_held = hold_seconds, max_held
        self._retry_after = retry_after
        self._line = ReturnLine(AdmissionRate(), time.monotonic, retry_after.random)
        self.begin_anew("")

    def begin_anew(self, cannot: str) -> None:
        """Nothing is held, as in a new process."""
        self.cannot = cannot
        self.held = 0
        self._changed = threading.Condition()

    def count(self, outcome: Outcome) -> None:
        """Count what became of a request."""
        with self._changed:
            setattr(self.stats.counts, outcome.value, getattr(self.stats.counts, outcome.value) + 1)
        self.stats.call_hook(outcome)

    def decide(self, multithread: bool) -> Outcome:
        """Decide a request while the gate is not open; hold it if there is a thread to spare."""
        if self.refuses_at_once():
            return Outcome.REFUSED
        with self._changed:
            if not multithread or self.held >= self._max_held:
                return Outcome.OVERFLOW
            self.held += 1
            self.stats.counts.held += 1
            try:
                return self._hold()
            finally:
                self.held -= 1

    def _hold(self) -> Outcome:
        until = time.monotonic() + self._hold_seconds
        while not self.is_open():
            if self.refuses_at_once():
                return Outcome.REFUSED
            left = until - time.monotonic()
            if left <= 0:
                return Outcome.TIMED_OUT
            self._changed.wait(left)
        return Outcome.ADMITTED

    def refuses_at_once(self) -> bool:
        """Whether no one is held, since waiting won't help."""
        if self.cannot or self.startup.never_ran_here:
            return True
        return super().refuses_at_once()

    def refuse(self, outcome: Outcome) -> HealthReport:
        """The response for this outcome."""
        startup = self.startup
        entered = not startup.never_ran_here or startup.stage is not Stage.BOOTING
        why = self.cannot or (
            reason(outcome, startup.stage, startup.draining or startup.ended is not None, True)
            if entered
            else "The start-up never began: leave run_in_thread on, or enter the orchestrator."
        )
        report = refusal(HTTPStatus.SERVICE_UNAVAILABLE, why)
        with self._changed:
            ends = startup.ended is not None or startup.draining
            retry = self._retry_after
            seconds = retry.draw() if ends else self._line.seconds(*retry.within())
        headers = (("retry-after", str(seconds)),)
        return HealthReport(report.status, report.body, report.content_type, headers)

    def wake(self) -> None:
        """Have every held request decided again."""
        with self._changed:
            self._changed.notify_all()
