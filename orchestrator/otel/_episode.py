"""Plain records of what becomes a trace: no OpenTelemetry here, and nothing that grows for ever.

An episode is one story with an end: the start-up, a fall, the way back, the drain. Its spans are
made when it ends, from these records, so a tracer provider that is set late loses nothing.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Generic, TypeVar

from orchestrator._core.account import Account
from orchestrator._ports import KeptFact
from states import Failure, ProbeFailed, ProbeSucceeded, Stage, StageChanged
from states._records import mutable_record, record

ATTEMPTS_FIRST = 10
"""The attempts that get a span of their own: the first ten, and the last one."""

STAGES_FIRST = 48
"""Stages and transitions that are kept, besides the last two; the SDK keeps 128 events a span."""

WAITS_FIRST = 120
"""The waits for conditions that get a span of their own, besides the last eight."""

CHECK_ATTEMPTS = 256
"""So many attempts of all checks together get a span of their own: of each check the first ten and
the last one, as long as there is room."""

TASK_EVENTS_FIRST = 24
"""The starts and ends of tasks that become events, besides the last eight."""

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

    __slots__ = ("_first", "_items", "_most", "total")

    def __init__(self, first: int, last: int) -> None:
        self._first = first
        self._most = first + last
        self._items: list[T] = []
        self.total = 0

    def append(self, item: T) -> None:
        """Keep it, perhaps instead of an earlier one."""
        self.total += 1
        self._items.append(item)
        if len(self._items) > self._most:
            del self._items[self._first]

    def replace_last(self, item: T) -> None:
        """Keep it in place of the last one, if there is any: there is no room for more."""
        self.total += 1
        if self._items:
            self._items[-1] = item

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        return iter(self._items)

    @property
    def omitted(self) -> int:
        """How many were counted only."""
        return self.total - len(self._items)


class EpisodeName(StrEnum):
    """The kinds of episodes; the values are the names of the root spans."""

    STARTUP = "startup"
    DEGRADE = "degrade"
    RECOVERY = "recovery"
    SHUTDOWN = "shutdown"


STOPPED = "stopped"
"""The outcome of an episode that was cut short; the others are the stage that it ended in."""


@mutable_record
class Stay:
    """One stay in one stage; `error` says what ended it, where that was a failure."""

    stage: Stage
    began_at: float
    ended_at: float = 0.0
    error: str = ""

    def __init__(
        self, stage: Stage, began_at: float, ended_at: float = 0.0, error: str = ""
    ) -> None:
        self.stage = stage
        self.began_at = began_at
        self.ended_at = ended_at
        self.error = error


@record
class AttemptRecord:
    """One attempt; `within` is the stay or the wait that holds it wholly, `None` if none does."""

    number: int
    began_at: float
    ended_at: float
    loop_lag_seconds: float
    failure: Failure | None
    within: "Stay | ConditionWait | None"


@mutable_record
class ConditionWait:
    """A time for which a condition did not hold: from its declaration, or from its fall.

    Attributes:
        name: The condition's name.
        required: Whether ready needs it.
        lost: Whether it had held before.
        began_at: When it was declared, or fell.
        ended_at: When it came true, or the episode ended without it.
        satisfied: Whether it came true.
        reason: The last reason given while it did not hold; empty where none was given.
    """

    name: str
    required: bool
    lost: bool
    began_at: float
    ended_at: float = 0.0
    satisfied: bool = False
    reason: str = ""


@record
class Transition:
    """A change of stage, and why it came.

    Attributes:
        changed: The change.
        reason: Why, for a person.
        error_type: A stable name of what failed; empty if nothing did.
    """

    changed: StageChanged
    reason: str
    error_type: str = ""


class Episode:
    """What one trace will say. Times are in the clock's seconds.

    Attributes:
        name: The kind, and the name of the root span.
        dated: A moment in the clock's seconds, and the same in nanoseconds of Unix time.
        began_at: The start of the root span.
        ended_at: Its end; meaningful once there is an `outcome`.
        outcome: `ready`, `degraded` or `stopped`; empty while it goes on.
        stays: The stays in stages, in order.
        transitions: The changes of stage, in order.
        attempts: The attempts, in order.
        waits: The times for which conditions did not hold, by their beginnings.
        checks: The attempts of each check, in order.
        task_events: What became of tasks, in order.
        failed_stage: The stage in which it failed; `None` if it did not.
        stopped_stage: The stage in which it was cut short; `None` if it was not.
        error_type: A stable name of what failed it; empty if nothing did.
        reason: The same for a person; for a recovery, why it was necessary; for a shutdown, what
            began it; for one that was cut short, what it still waited for.
        falls_so_far: How often the service has fallen from ready so far.
        unmet: The required conditions that did not hold at the end.
        account: Where a start-up went; `None` for all other episodes.
        stay: The current stay; `None` before the first and between episodes.
    """

    def __init__(
        self, name: EpisodeName, dated: tuple[float, int], began_at: float, *, reason: str = ""
    ) -> None:
        self.name = name
        self.dated = dated
        self.began_at = began_at
        self.ended_at = 0.0
        self.outcome = ""
        self.stays: FirstAndLast[Stay] = FirstAndLast(STAGES_FIRST, 2)
        self.transitions: FirstAndLast[Transition] = FirstAndLast(STAGES_FIRST, 2)
        self.attempts: FirstAndLast[AttemptRecord] = FirstAndLast(ATTEMPTS_FIRST, 1)
        self.waits: FirstAndLast[ConditionWait] = FirstAndLast(WAITS_FIRST, 8)
        self.checks: dict[str, FirstAndLast[AttemptRecord]] = {}
        self.task_events: FirstAndLast[KeptFact] = FirstAndLast(TASK_EVENTS_FIRST, 8)
        self.failed_stage: Stage | None = None
        self.stopped_stage: Stage | None = None
        self.error_type = ""
        self.reason = reason
        self.falls_so_far = 0
        self.unmet: tuple[str, ...] = ()
        self.account: Account | None = None
        self.stay: Stay | None = None

    def enter(self, stage: Stage, at: float) -> None:
        """A stay in `stage` begins."""
        self.stay = Stay(stage, at)
        self.stays.append(self.stay)

    def leave(self, at: float, error: str = "") -> None:
        """The current stay ends, with a failure if there is an `error`."""
        if self.stay is not None:
            self.stay.ended_at = at
            self.stay.error = error
            self.stay = None

    def attempted(self, fact: ProbeSucceeded | ProbeFailed) -> None:
        """An attempt ended, in the current stay."""
        self.attempts.append(self._attempt(self.attempts.total + 1, fact, self.stay))

    def checked(
        self, name: str, fact: ProbeSucceeded | ProbeFailed, wait: ConditionWait | None
    ) -> None:
        """An attempt of a check ended, while its condition did not hold if there is a `wait`."""
        attempts = self.checks.get(name)
        if attempts is None:
            attempts = self.checks[name] = FirstAndLast(ATTEMPTS_FIRST, 1)
        has_room = len(attempts) > ATTEMPTS_FIRST or self.check_spans < CHECK_ATTEMPTS
        keep = attempts.append if has_room else attempts.replace_last
        keep(self._attempt(attempts.total + 1, fact, wait))

    @property
    def check_spans(self) -> int:
        """How many attempts of checks are kept."""
        return sum(map(len, self.checks.values()))

    def _attempt(
        self, number: int, fact: ProbeSucceeded | ProbeFailed, within: "Stay | ConditionWait | None"
    ) -> AttemptRecord:
        began_at = max(self.began_at, attempt_began_at(fact))
        ended_at = max(began_at, fact.at - fact.loop_lag_seconds)
        if within is not None and began_at < within.began_at:
            if began_at < within.began_at - _SLACK_SECONDS:
                within = None  # it was under way when the stage changed
            else:
                began_at = within.began_at
                ended_at = max(began_at, ended_at)
        failure = fact.failure if isinstance(fact, ProbeFailed) else None
        return AttemptRecord(number, began_at, ended_at, fact.loop_lag_seconds, failure, within)


def attempt_began_at(fact: ProbeSucceeded | ProbeFailed) -> float:
    """When the attempt began, in the clock's seconds."""
    return fact.at - fact.loop_lag_seconds - fact.latency_seconds


def shortened(reason: str) -> str:
    """The reason, cut to a bounded length."""
    return reason if len(reason) <= _REASON_LENGTH else reason[: _REASON_LENGTH - 1] + "\u2026"
