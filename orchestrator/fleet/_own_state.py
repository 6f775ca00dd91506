"""What an instance says of itself, derived from the facts that it observes. Pure."""

from orchestrator._core.account_book import AccountBook
from orchestrator._core.explanation import cause_in_words
from orchestrator._ports import StartupContext
from orchestrator._runtime.platform_identity import ServiceIdentity
from orchestrator.fleet._wire import FleetCondition, FleetEntry, FleetState
from states import (
    ConditionChanged,
    DrainBegan,
    Fact,
    Failure,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
)


class OwnState:
    """Takes every fact of one start-up.

    Args:
        context: What observers get before the first fact.
        identity: What the instance is called.
        incarnation: The name of this start-up.

    Attributes:
        told_at: When the context was made, in Unix seconds. Everything is dated from there, so that
            a clock that is set meanwhile moves nothing.
    """

    def __init__(
        self, context: StartupContext, identity: ServiceIdentity, incarnation: str
    ) -> None:
        self._identity = identity
        self._incarnation = incarnation
        self._probe = context.target.name
        self.told_at = context.now_unix_nanoseconds / 1e9
        self._zero = self.told_at - context.now_at
        self._started_at = self.unix_seconds(context.started_at)
        self._book = AccountBook()
        self._book.started(context)
        self._attempts = 0
        self._failures_in_row = 0
        self._failure: Failure | None = None
        self._answers = False
        self._stage = Stage.BOOTING
        self._conditions = {
            name: FleetCondition(satisfied=False, required=required)
            for name, required in context.conditions.items()
        }
        self._draining = False
        self._last_at = context.now_at

    def unix_seconds(self, at: float) -> float:
        """A time of the orchestrator's clock, as a date."""
        return max(0.0, self._zero + at)

    def take(self, fact: Fact, changed: StageChanged | None) -> FleetEntry | None:
        """Take a fact; return the change of stage that it caused, if any."""
        self._book.observed(fact, changed)
        self._last_at = fact.at
        match fact:
            case ProbeSucceeded():
                self._attempts += 1
                self._answers, self._failure, self._failures_in_row = True, None, 0
            case ProbeFailed(failure=failure):
                self._attempts += 1
                self._failures_in_row += 1
                self._answers, self._failure = False, failure
            case ConditionChanged(name=name, satisfied=satisfied, reason=reason):
                required = self._conditions.get(name, FleetCondition()).required
                self._conditions[name] = FleetCondition(satisfied, required, reason)
            case DrainBegan():
                self._draining = True
        if changed is None:
            return None
        self._stage = changed.current
        return FleetEntry(
            incarnation=self._incarnation,
            instance=self._identity.instance,
            version=self._identity.version,
            sequence=changed.sequence,
            previous=changed.previous,
            current=changed.current,
            fact=type(changed.cause).__name__,
            cause=cause_in_words(changed, self._probe),
            at=self.unix_seconds(changed.at),
            elapsed_seconds=max(0.0, changed.elapsed_seconds),
        )

    def state(
        self,
        entry: FleetEntry,
        newest: int,
        beat_seconds: float,
        lease_seconds: float,
    ) -> FleetState:
        """The whole state; `entry` is the last change that was sent, `newest` the last."""
        account = self._book.account(self._last_at)
        steps = sorted(account.steps, key=lambda step: step.seconds, reverse=True)
        return FleetState(
            entry=entry,
            service=self._identity.service,
            started_at=self._started_at,
            lease_seconds=lease_seconds,
            beat_seconds=beat_seconds,
            waits_for=self._waits_for(),
            attempts=self._attempts,
            failures_in_row=self._failures_in_row,
            failure=self._failure,
            conditions=dict(self._conditions),
            untold=newest - entry.sequence,
            draining=self._draining,
            startup_seconds=account.seconds,
            steps={step.name: step.seconds for step in steps if step.seconds > 0},
        )

    def _waits_for(self) -> tuple[str, ...]:
        if self._stage is Stage.READY:
            return ()
        waits = [] if self._answers else [_because(f"{self._probe} to answer", self._failure)]
        for name, one in self._conditions.items():
            if one.required and not one.satisfied:
                waits.append(f"condition {name}" + (f" ({one.reason})" if one.reason else ""))
        return tuple(waits)


def _because(words: str, failure: Failure | None) -> str:
    return f"{words} ({failure.reason})" if failure is not None else words
