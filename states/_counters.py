"""What the machine keeps count of."""

from collections.abc import Iterable, Mapping

from states._events import ConditionState, Missing
from states._facts import (
    BootFinished,
    ConditionChanged,
    DrainBegan,
    Fact,
    ProbeFailed,
    ProbeSucceeded,
)
from states._policy import Policy
from states._stages import Stage

_BOOTING, _PROBING, _GRACE, _READY, _DEGRADED = Stage  # a member is slow to look up

_ROUNDING_SECONDS = 1e-6
"""Sums of floating-point seconds may fall short of a whole by less than this."""


class Counters:
    """The counters of one machine, moved by `count` and `enter`; `engine_stage` by the engine."""

    def __init__(self, policy: Policy, conditions: Mapping[str, bool], started_at: float) -> None:
        self.policy = policy
        self.stage = _BOOTING
        self.engine_stage = _BOOTING.value
        self.since = started_at
        self.last_at = started_at
        self.in_startup = True
        self.ready_since: float | None = None
        self.budget_ends_at: float | None = None
        self.attempts = 0
        self.failures_in_row = 0
        self.congested_in_row = 0
        self.probe_answers = False
        self.last_success_at: float | None = None
        self.last_failure: ProbeFailed | None = None
        self.outage_since: float | None = None
        self.falls = 0
        self.proved_seconds = 0.0
        self.unproved_seconds = 0.0
        self.stalled_at: float | None = None
        self.stalls = 0
        self.draining_since: float | None = None
        self.conditions = {
            name: ConditionState(required, satisfied=False, reason="", since=started_at)
            for name, required in conditions.items()
        }
        self.unmet = {name for name, required in conditions.items() if required}
        self.stage_seconds = dict.fromkeys(Stage, 0.0)

    # -- counting ---------------------------------------------------------------------------------

    def count(self, fact: Fact) -> None:
        """Take the fact into the counters. Nothing here can fail."""
        span = fact.at - self.last_at
        self.last_at = fact.at
        if self.stage is _GRACE:
            self._count_time(span)
        match fact:
            case ProbeSucceeded():
                self._count_success(fact)
            case ProbeFailed():
                self._count_failure(fact)
            case ConditionChanged():
                self._count_condition(fact)
            case BootFinished():
                self.budget_ends_at = fact.at + self.policy.budget_seconds
            case DrainBegan() if self.draining_since is None:
                self.draining_since = fact.at

    def _count_time(self, span: float) -> None:
        """Count the time in which the event loop ran; an answer will prove it.

        A longer gap is a stall. The loop was due to run within half of `stall_seconds`, so that
        much of it counts, or a loop that stalls again and again would never be through. But not
        before the loop has run on for as long: no process wakes up with the grace served.
        """
        stall = self.policy.stall_seconds
        if self.stalled_at is not None and self.last_at - self.stalled_at >= stall / 2:
            self.unproved_seconds += stall / 2
            self.stalled_at = None
        if span <= stall:
            self.unproved_seconds += span
        else:
            self.stalled_at = self.last_at
            self.stalls += 1

    def _count_success(self, fact: ProbeSucceeded) -> None:
        self.attempts += 1
        self.failures_in_row = 0
        self.congested_in_row = 0
        self.probe_answers = True
        self.last_success_at = fact.at
        self.outage_since = None
        self.proved_seconds += self.unproved_seconds
        self.unproved_seconds = 0.0

    def _count_failure(self, fact: ProbeFailed) -> None:
        self.attempts += 1
        self.failures_in_row += 1
        self.congested_in_row = self.congested_in_row + 1 if fact.failure.congestion else 0
        self.probe_answers = False
        self.last_failure = fact
        if self.outage_since is None:
            self.outage_since = fact.at

    def _count_condition(self, fact: ConditionChanged) -> None:
        before = self.conditions[fact.name]
        since = before.since if before.satisfied == fact.satisfied else fact.at
        self.conditions[fact.name] = ConditionState(
            before.required, fact.satisfied, fact.reason, since
        )
        if before.required:
            (self.unmet.discard if fact.satisfied else self.unmet.add)(fact.name)

    def enter(self, stage: Stage, at: float) -> None:
        """The engine has reached `stage`: begin its accounts."""
        previous, self.stage = self.stage, stage
        self.stage_seconds[previous] += at - self.since
        self.since = at
        self.proved_seconds = self.unproved_seconds = 0.0
        self.stalled_at, self.stalls = None, 0
        if stage is _READY:
            self.in_startup = False
            self.ready_since = at
        elif stage is _DEGRADED:
            self.in_startup = False
            if previous is _READY and self.ready_since is not None:
                calm = at - self.ready_since >= self.policy.flap_window_seconds
                self.falls = 1 if calm else self.falls + 1

    # -- derived ----------------------------------------------------------------------------------

    @property
    def grace_seconds(self) -> float:
        """The grace asked for: the policy's, and more after repeated falls."""
        policy = self.policy
        if self.falls <= 1:
            return policy.grace_seconds
        # The exponent is bounded: beyond it the cap holds anyway, and floats would overflow.
        added = policy.flap_grace_seconds * 2.0 ** min(self.falls - 2, 64)
        lengthened = min(policy.grace_seconds + added, policy.flap_grace_cap_seconds)
        return max(policy.grace_seconds, lengthened)

    @property
    def grace_left_seconds(self) -> float:
        """How much of the grace is still to be proved."""
        left = self.grace_seconds - self.proved_seconds
        return left if left > _ROUNDING_SECONDS else 0.0

    @property
    def wake_at(self) -> float | None:
        """When the next `TimerFired` is wanted."""
        if self.draining_since is not None:
            return None
        if self.stage is _PROBING:
            return self.budget_ends_at
        if self.stage is not _GRACE:
            return None
        if not self.grace_left_seconds:
            # Served. With conditions missing only the budget can end the wait.
            return self.budget_ends_at if self.unmet else self.last_at
        # Grace counts only time in which the loop ran: ask twice as often as a stall is long.
        tick = self.last_at + self.policy.stall_seconds / 2
        if self.unmet and self.budget_ends_at is not None:
            return min(tick, self.budget_ends_at)
        return tick

    def waits_for(self) -> tuple[Missing, ...]:
        """What ready needs and that is not there."""
        probe: tuple[Missing, ...] = ()
        conditions: tuple[Missing, ...] = ()
        if not self.probe_answers:
            failed = self.last_failure
            if failed is None:
                probe = (Missing(None),)
            else:
                probe = (Missing(None, failed.failure.reason, failed.failure.error_type),)
        if self.unmet:
            conditions = tuple(
                Missing(name, self.conditions[name].reason) for name in sorted(self.unmet)
            )
        return probe + conditions


def declared(conditions: Mapping[str, bool] | Iterable[str]) -> dict[str, bool]:
    """Names with whether each is required; names alone are required ones."""
    if isinstance(conditions, Mapping):
        return dict(conditions)
    return dict.fromkeys(conditions, True)
