"""Decides which facts make up which episode, and why one failed. No OpenTelemetry here either.

`EpisodeWriter` calls it for each fact, and has `TraceWriter` write the episodes that it returns.
"""

from collections.abc import Iterable, Sequence

from orchestrator._core.account_book import AccountBook
from orchestrator._core.explanation import cause_in_words, missing_in_words
from orchestrator._ports import KeptFact, KeptStep, StartupContext
from orchestrator.otel._episode import (
    ATTEMPTS_FIRST,
    BUDGET_SPENT,
    CONDITION_NOT_MET,
    STOPPED,
    ConditionWait,
    Episode,
    EpisodeName,
    Transition,
    attempt_began_at,
    shortened,
)
from states import (
    ConditionChanged,
    DrainBegan,
    Fact,
    Missing,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
)


class Recorder:
    """Turns facts into episodes. One for each start-up.

    Args:
        context: What the observer got at the start.
    """

    def __init__(self, context: StartupContext) -> None:
        self._probe = context.target.name
        self._required = context.conditions
        self._after = context.after
        self._failing: dict[str, list[ProbeFailed]] = {}  # of checks, while all is well
        self._falls = 0
        self._stage = Stage.BOOTING
        self._held: set[str] = set()  # at some time
        self._holding: set[str] = set()
        self._waits: dict[str, ConditionWait] = {}  # those of the current episode that go on
        dated = context.now_at, context.now_unix_nanoseconds
        self._episode: Episode | None = Episode(EpisodeName.STARTUP, dated, context.started_at)
        self._episode.enter(Stage.BOOTING, context.started_at)
        self._book = AccountBook()
        self._book.started(context)
        for name in context.conditions:  # declared when the orchestrator is entered
            self._wait_for(name, "", self._episode, context.now_at)

    def record(
        self, fact: Fact, changed: StageChanged | None, unix_nanoseconds: int
    ) -> Episode | None:
        """Take a fact, and when it was by the wall clock; return the episode that it ended."""
        self._book.observed(fact, changed)
        if isinstance(fact, ConditionChanged):
            self._count_condition(fact)
        if isinstance(fact, DrainBegan):
            return self._drain(fact, unix_nanoseconds)
        episode = self._episode
        if episode is None:  # ready, and nothing is wrong so far
            if changed is None and not isinstance(fact, ProbeFailed):
                return None
            self._episode = episode = self._fall(fact, unix_nanoseconds)
        elif episode.name is EpisodeName.DEGRADE and isinstance(fact, ProbeSucceeded):
            self._episode = None  # a hiccup: ready has not fallen
            return None
        if isinstance(fact, ProbeSucceeded | ProbeFailed):
            episode.attempted(fact)
        return None if changed is None else self._changed(episode, changed)

    def record_kept(self, fact: KeptFact) -> None:
        """Take what happened inside of a check or a task."""
        episode, wait = self._episode, self._waits.get(fact.name)
        attempt = fact.attempt
        if attempt is not None:
            if episode is not None:
                episode.checked(fact.name, attempt, wait)
            elif isinstance(attempt, ProbeFailed):
                failing = self._failing.setdefault(fact.name, [])
                del failing[ATTEMPTS_FIRST:]
                failing.append(attempt)
            else:
                self._failing.pop(fact.name, None)
        elif episode is None:
            return
        elif fact.step is not KeptStep.BEGAN:
            episode.task_events.append(fact)
        elif wait is not None and fact.name in self._after:
            wait.began_at = max(wait.began_at, fact.at)

    def _fall(self, fact: Fact, unix_nanoseconds: int) -> Episode:
        """Begin an episode that may end in a fall, with the first attempt that failed."""
        failing: list[ProbeFailed] = []
        if isinstance(fact, ConditionChanged):
            failing = self._failing.pop(fact.name, [])
        self._failing.clear()
        failed = [*failing, fact] if isinstance(fact, ProbeFailed) else failing
        began_at = min([fact.at, *map(attempt_began_at, failed)])
        episode = Episode(EpisodeName.DEGRADE, (fact.at, unix_nanoseconds), began_at)
        if isinstance(fact, ConditionChanged):
            for attempt in failing:
                episode.checked(fact.name, attempt, None)
        return episode

    def _drain(self, fact: DrainBegan, unix_nanoseconds: int) -> Episode | None:
        """Cut short what is under way, and begin the shutdown, unless it has begun already."""
        if self._episode is not None and self._episode.name is EpisodeName.SHUTDOWN:
            return None
        ended = self.stopped(fact.at, ())
        dated, reason = (fact.at, unix_nanoseconds), shortened(fact.reason)
        self._episode = Episode(EpisodeName.SHUTDOWN, dated, fact.at, reason=reason)
        self._episode.enter(self._stage, fact.at)
        return ended

    def stopped(self, at: float, waits_for: Sequence[Missing]) -> Episode | None:
        """End: nothing follows. Return the episode that was cut short, if any.

        Args:
            at: When.
            waits_for: What was missing then, as the machine knows it.
        """
        episode, self._episode = self._episode, None
        if episode is None or episode.name is EpisodeName.DEGRADE:
            return None
        if episode.stay is not None and episode.name is not EpisodeName.SHUTDOWN:
            episode.stopped_stage = episode.stay.stage
            reasons = [f"stopped in {episode.stay.stage}"]
            if waits_for:
                reasons.append(missing_in_words(waits_for))
            episode.reason = shortened(": ".join(reasons))
        episode.leave(at)
        return self._end(episode, STOPPED, at, waits_for)

    def _changed(self, episode: Episode, changed: StageChanged) -> Episode | None:
        at, current = changed.at, changed.current
        self._stage = current
        fell = current is Stage.DEGRADED
        reason = shortened(cause_in_words(changed, self._probe))
        error_type = _error_type(changed)
        episode.transitions.append(Transition(changed, reason, error_type))
        episode.leave(at, reason if fell else "")
        if fell and changed.previous is Stage.READY:
            self._falls += 1
        over = current is Stage.READY or (fell and episode.name is not EpisodeName.RECOVERY)
        if not over:
            episode.enter(current, at)
            return None
        self._episode = None
        if fell:
            episode.failed_stage = changed.previous
            episode.error_type, episode.reason = error_type, reason
        ended = self._end(episode, current.value, at, changed.waits_for)
        if fell:
            # It follows on the second, so it keeps the date.
            self._episode = Episode(EpisodeName.RECOVERY, ended.dated, at, reason=reason)
            self._episode.enter(Stage.DEGRADED, at)
            for lack in changed.waits_for:
                if lack.name is not None:
                    self._wait_for(lack.name, lack.reason, self._episode, at)
        return ended

    def _end(
        self, episode: Episode, outcome: str, at: float, waits_for: Iterable[Missing]
    ) -> Episode:
        episode.ended_at = at
        episode.outcome = outcome
        episode.falls_so_far = self._falls
        if episode.name is EpisodeName.STARTUP:
            episode.account = self._book.account(at)
        episode.unmet = tuple(sorted(lack.name for lack in waits_for if lack.name is not None))
        for wait in self._waits.values():
            wait.ended_at = at
        self._waits.clear()
        return episode

    # -- conditions --------------------------------------------------------------------------------

    def _count_condition(self, fact: ConditionChanged) -> None:
        wait = self._waits.get(fact.name)
        if fact.satisfied:
            self._held.add(fact.name)
            self._holding.add(fact.name)
            if wait is not None:
                wait.ended_at, wait.satisfied = fact.at, True
                del self._waits[fact.name]
            return
        episode = self._episode
        if wait is not None:
            wait.reason = shortened(fact.reason) or wait.reason
        elif (
            fact.name in self._holding
            and episode is not None
            and episode.name is not EpisodeName.DEGRADE
        ):
            self._wait_for(fact.name, fact.reason, episode, fact.at)
        self._holding.discard(fact.name)

    def _wait_for(self, name: str, reason: str, episode: Episode, at: float) -> None:
        wait = ConditionWait(
            name, self._required[name], name in self._held, at, reason=shortened(reason)
        )
        self._waits[name] = wait
        episode.waits.append(wait)


def _error_type(changed: StageChanged) -> str:
    """A stable name of what failed; empty where the change tells of no failure."""
    match changed.cause:
        case ProbeFailed(failure=failure):
            return failure.error_type
        case ConditionChanged(satisfied=False):
            return CONDITION_NOT_MET
    if changed.current is not Stage.DEGRADED:
        return ""
    for lack in changed.waits_for[:1]:  # the budget is spent
        return CONDITION_NOT_MET if lack.name is not None else lack.error_type or BUDGET_SPENT
    return BUDGET_SPENT
