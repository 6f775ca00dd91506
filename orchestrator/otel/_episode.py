"""Plain records of what becomes a trace: no OpenTelemetry here, and nothing that grows for ever.

An episode is one story with an end: the start-up, a fall from ready, the way back. Its spans are
made when it ends, from these records, so a tracer provider that is set late loses nothing.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from orchestrator._ports import StartupContext
from states import (
    ConditionChanged,
    Fact,
    Failure,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
)

ATTEMPTS_FIRST = 10
"""The attempts that get a span of their own: the first ten, and the last one."""

STAGES_FIRST = 48
"""Stages and transitions that are kept, besides the last two; the SDK keeps 128 events a span."""

_REASON_LENGTH = 500
"""Reasons are cut here, so that no single one can blow a span up."""

_SLACK_SECONDS = 0.001
"""Latency and lag are measured apart; their sum may reach this far beyond the stage's start."""

CONDITION_NOT_MET = "condition_not_met"
"""The `error.type` where a required condition was lost or never came true."""

BUDGET_SPENT = "budget_spent"
"""The `error.type` where the start-up budget ended without a single failed attempt."""

T = TypeVar("T")


class FirstAndLast(Generic[T]):
    """Keeps the first and the last of many things, and counts the rest."""

    def __init__(self, first: int, last: int) -> None:
        self._size = first
        self._first: list[T] = []
        self._last: deque[T] = deque(maxlen=last)
        self.total = 0

    def append(self, item: T) -> None:
        """Keep it, perhaps instead of an earlier one."""
        self.total += 1
        (self._first if len(self._first) < self._size else self._last).append(item)

    def __iter__(self) -> Iterator[T]:
        yield from self._first
        yield from self._last

    @property
    def omitted(self) -> int:
        """How many were counted only."""
        return self.total - len(self._first) - len(self._last)


class EpisodeName(StrEnum):
    """The kinds of episodes; the values are the names of the root spans."""

    STARTUP = "startup"
    DEGRADE = "degrade"
    RECOVERY = "recovery"


STOPPED = "stopped"
"""The outcome of an episode that was cut short; the others are the stage that it ended in."""


@dataclass(slots=True)
class Visit:
    """One stay in one stage."""

    stage: Stage
    began_at: float
    ended_at: float = 0.0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt; `visit` is the stay that holds it wholly, `None` where none does."""

    number: int
    began_at: float
    ended_at: float
    loop_lag_seconds: float
    failure: Failure | None
    visit: Visit | None


def _visits() -> FirstAndLast[Visit]:
    return FirstAndLast(STAGES_FIRST, 2)


def _transitions() -> FirstAndLast[StageChanged]:
    return FirstAndLast(STAGES_FIRST, 2)


def _attempts() -> FirstAndLast[Attempt]:
    return FirstAndLast(ATTEMPTS_FIRST, 1)


@dataclass(slots=True)
class Episode:
    """What one trace will say. Times are in the clock's seconds.

    Attributes:
        name: The kind, and the name of the root span.
        began_at: The start of the root span.
        ended_at: Its end; meaningful once there is an `outcome`.
        outcome: `ready`, `degraded` or `stopped`; empty while it goes on.
        visits: The stays in stages, in order.
        transitions: The changes of stage, in order.
        attempts: The attempts, in order.
        failed_stage: The stage in which it failed; `None` if it did not.
        error_type: A stable name of what failed it; empty if nothing did.
        reason: The same for a person.
        unmet: The required conditions that did not hold at the end.
        visit: The current stay; `None` before the first and between episodes.
    """

    name: EpisodeName
    began_at: float
    ended_at: float = 0.0
    outcome: str = ""
    visits: FirstAndLast[Visit] = field(default_factory=_visits)
    transitions: FirstAndLast[StageChanged] = field(default_factory=_transitions)
    attempts: FirstAndLast[Attempt] = field(default_factory=_attempts)
    failed_stage: Stage | None = None
    error_type: str = ""
    reason: str = ""
    unmet: tuple[str, ...] = ()
    visit: Visit | None = None

    def enter(self, stage: Stage, at: float) -> None:
        """A stay in `stage` begins."""
        self.visit = Visit(stage, at)
        self.visits.append(self.visit)

    def leave(self, at: float, *, failed: bool) -> None:
        """The current stay ends."""
        if self.visit is not None:
            self.visit.ended_at = at
            self.visit.failed = failed
            self.visit = None

    def attempted(self, fact: ProbeSucceeded | ProbeFailed) -> None:
        """An attempt ended, in the current stay."""
        began_at = max(self.began_at, attempt_began_at(fact))
        ended_at = max(began_at, fact.at - fact.loop_lag_seconds)
        visit = self.visit
        if visit is not None and began_at < visit.began_at:
            if began_at < visit.began_at - _SLACK_SECONDS:
                visit = None  # it was under way when the stage changed
            else:
                began_at = visit.began_at
                ended_at = max(began_at, ended_at)
        failure = fact.failure if isinstance(fact, ProbeFailed) else None
        self.attempts.append(
            Attempt(
                self.attempts.total + 1, began_at, ended_at, fact.loop_lag_seconds, failure, visit
            )
        )


def attempt_began_at(fact: ProbeSucceeded | ProbeFailed) -> float:
    """When the attempt began, in the clock's seconds."""
    return fact.at - fact.loop_lag_seconds - fact.latency_seconds


class Recorder:
    """Turns facts into episodes. One for each start-up."""

    def __init__(self, context: StartupContext) -> None:
        self._budget_seconds = context.policy.budget_seconds
        self._unmet = {name: "" for name, required in context.conditions.items() if required}
        self._required = frozenset(self._unmet)
        self._last_failure: Failure | None = None
        self.last_at = context.now_at
        self._episode: Episode | None = Episode(EpisodeName.STARTUP, context.started_at)
        self._episode.enter(Stage.BOOTING, context.started_at)

    def observed(self, fact: Fact, changed: StageChanged | None) -> Episode | None:
        """Take a fact; return the episode that it ended, if any."""
        self.last_at = fact.at
        if isinstance(fact, ConditionChanged):
            self._count_condition(fact)
        elif isinstance(fact, ProbeFailed):
            self._last_failure = fact.failure
        elif isinstance(fact, ProbeSucceeded):
            self._last_failure = None
        episode = self._episode
        if episode is None:  # ready, and nothing is wrong so far
            if changed is None and not isinstance(fact, ProbeFailed):
                return None
            began_at = attempt_began_at(fact) if isinstance(fact, ProbeFailed) else fact.at
            self._episode = episode = Episode(EpisodeName.DEGRADE, min(fact.at, began_at))
        elif episode.name is EpisodeName.DEGRADE and isinstance(fact, ProbeSucceeded):
            self._episode = None  # a hiccup: ready has not fallen
            return None
        if isinstance(fact, ProbeSucceeded | ProbeFailed):
            episode.attempted(fact)
        return None if changed is None else self._changed(episode, changed)

    def stopped(self, at: float) -> Episode | None:
        """Nothing follows; return the episode that was cut short, if any."""
        episode, self._episode = self._episode, None
        if episode is None or episode.name is EpisodeName.DEGRADE:
            return None
        episode.leave(at, failed=False)
        return self._end(episode, STOPPED, at)

    def _changed(self, episode: Episode, changed: StageChanged) -> Episode | None:
        at, current = changed.at, changed.current
        episode.transitions.append(changed)
        episode.leave(at, failed=current is Stage.DEGRADED)
        over = current is Stage.READY or (
            current is Stage.DEGRADED and episode.name is not EpisodeName.RECOVERY
        )
        if not over:
            episode.enter(current, at)
            return None
        self._episode = None
        if current is Stage.DEGRADED:
            episode.failed_stage = changed.previous
            episode.error_type, episode.reason = self._why(changed)
            self._episode = Episode(EpisodeName.RECOVERY, at)
            self._episode.enter(Stage.DEGRADED, at)
        return self._end(episode, current.value, at)

    def _end(self, episode: Episode, outcome: str, at: float) -> Episode:
        episode.ended_at = at
        episode.outcome = outcome
        episode.unmet = tuple(sorted(self._unmet))
        return episode

    def _count_condition(self, fact: ConditionChanged) -> None:
        if fact.name not in self._required:
            return
        if fact.satisfied:
            self._unmet.pop(fact.name, None)
        else:
            self._unmet[fact.name] = fact.reason

    def _why(self, changed: StageChanged) -> tuple[str, str]:
        """Why degraded was entered: `error.type` and the reason in words."""
        if (why := cause_of_failure(changed)) is not None:
            return why
        spent = f"the start-up budget of {self._budget_seconds:g} s is spent"
        if self._last_failure is not None:
            return self._last_failure.error_type, shortened(f"{spent}: {self._last_failure.reason}")
        if self._unmet:
            missing = ", ".join(
                f"{name} ({reason})" if reason else name
                for name, reason in sorted(self._unmet.items())
            )
            return CONDITION_NOT_MET, shortened(f"{spent}; conditions not met: {missing}")
        return BUDGET_SPENT, spent


def cause_of_failure(changed: StageChanged) -> tuple[str, str] | None:
    """`error.type` and reason, where a failed attempt or a lost condition caused the change."""
    match changed.cause:
        case ProbeFailed(failure=failure):
            return failure.error_type, shortened(failure.reason)
        case ConditionChanged(name=name, satisfied=False, reason=reason):
            return CONDITION_NOT_MET, shortened(f"condition {name}: {reason or 'not satisfied'}")
    return None


def shortened(reason: str) -> str:
    """The reason, cut to a bounded length."""
    return reason if len(reason) <= _REASON_LENGTH else reason[: _REASON_LENGTH - 1] + "\u2026"
