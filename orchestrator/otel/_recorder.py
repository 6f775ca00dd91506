"""Which facts make up which episode, and why one failed. No OpenTelemetry here either."""

from dataclasses import dataclass

from orchestrator._ports import StartupContext
from orchestrator.otel._episode import (
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
    Fact,
    Failure,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
)


@dataclass(slots=True)
class _Condition:
    """What is known of one declared condition; `wait` is open while an episode waits for it."""

    name: str
    required: bool
    satisfied: bool = False
    held_before: bool = False
    reason: str = ""
    wait: ConditionWait | None = None


class Recorder:
    """Turns facts into episodes. One for each start-up."""

    def __init__(self, context: StartupContext) -> None:
        self._budget_seconds = context.policy.budget_seconds
        self._last_failure: Failure | None = None
        self._falls = 0
        self._conditions = {
            name: _Condition(name, required) for name, required in context.conditions.items()
        }
        dated = context.now_at, context.now_unix_nanoseconds
        self._episode: Episode | None = Episode(EpisodeName.STARTUP, dated, context.started_at)
        self._episode.enter(Stage.BOOTING, context.started_at)
        for condition in self._conditions.values():  # declared when the orchestrator is entered
            self._wait_for(condition, self._episode, context.now_at)

    def observed(
        self, fact: Fact, changed: StageChanged | None, unix_nanoseconds: int
    ) -> Episode | None:
        """Take a fact, and when it was by the wall clock; return the episode that it ended."""
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
            dated = fact.at, unix_nanoseconds
            self._episode = episode = Episode(EpisodeName.DEGRADE, dated, min(fact.at, began_at))
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
        if episode.visit is not None:
            episode.stopped_stage = episode.visit.stage
            episode.reason = self._cut_short(episode.visit.stage)
        episode.leave(at)
        return self._end(episode, STOPPED, at)

    def _changed(self, episode: Episode, changed: StageChanged) -> Episode | None:
        at, current = changed.at, changed.current
        fell = current is Stage.DEGRADED
        error_type, reason = self._why(changed)
        episode.transitions.append(Transition(changed, error_type, reason))
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
        ended = self._end(episode, current.value, at)
        if fell:
            # It follows on the second, so it keeps the date.
            self._episode = Episode(EpisodeName.RECOVERY, ended.dated, at, reason=reason)
            self._episode.enter(Stage.DEGRADED, at)
            for condition in self._conditions.values():
                if condition.required and not condition.satisfied:
                    self._wait_for(condition, self._episode, at)
        return ended

    def _end(self, episode: Episode, outcome: str, at: float) -> Episode:
        episode.ended_at = at
        episode.outcome = outcome
        episode.falls = self._falls
        if self._conditions:
            episode.unmet = tuple(sorted(condition.name for condition in self._unmet()))
            for condition in self._conditions.values():
                if condition.wait is not None:
                    condition.wait.ended_at = at
                    condition.wait = None
        return episode

    # -- conditions --------------------------------------------------------------------------------

    def _count_condition(self, fact: ConditionChanged) -> None:
        condition = self._conditions[fact.name]
        fell = condition.satisfied and not fact.satisfied
        condition.satisfied = fact.satisfied
        if fact.satisfied:
            condition.held_before = True
            condition.reason = ""
            if (wait := condition.wait) is not None:
                wait.ended_at, wait.satisfied = fact.at, True
                condition.wait = None
            return
        condition.reason = fact.reason or condition.reason
        episode = self._episode
        if condition.wait is not None:
            condition.wait.reason = shortened(condition.reason)
        elif fell and episode is not None and episode.name is not EpisodeName.DEGRADE:
            self._wait_for(condition, episode, fact.at)

    def _wait_for(self, condition: _Condition, episode: Episode, at: float) -> None:
        condition.wait = ConditionWait(
            condition.name,
            condition.required,
            condition.held_before,
            at,
            reason=shortened(condition.reason),
        )
        episode.waits.append(condition.wait)

    def _unmet(self) -> list[_Condition]:
        return [c for c in self._conditions.values() if c.required and not c.satisfied]

    # -- why ---------------------------------------------------------------------------------------

    def _why(self, changed: StageChanged) -> tuple[str, str]:
        """What failed, as `error.type` and in words; empty where the change tells of no failure."""
        match changed.cause:
            case ProbeFailed(failure=failure):
                return failure.error_type, shortened(failure.reason)
            case ConditionChanged(name=name, satisfied=False, reason=reason):
                said = f"condition {name}: {reason or 'not satisfied'}"
                return CONDITION_NOT_MET, shortened(said)
        if changed.current is not Stage.DEGRADED:
            return "", ""
        spent = f"the start-up budget of {self._budget_seconds:g} s is spent"
        if self._last_failure is not None:
            return self._last_failure.error_type, shortened(f"{spent}: {self._last_failure.reason}")
        if missing := self._missing():
            return CONDITION_NOT_MET, shortened(f"{spent}; {missing}")
        return BUDGET_SPENT, spent

    def _cut_short(self, stage: Stage) -> str:
        """Why an episode had not ended yet when the orchestrator was left."""
        failure = self._last_failure
        waited_for = (
            f"the last attempt failed: {failure.reason}" if failure else "",
            self._missing(),
        )
        return shortened("; ".join([f"stopped in {stage}", *filter(None, waited_for)]))

    def _missing(self) -> str:
        """The required conditions that do not hold, in words; empty where all do."""
        unmet = sorted(self._unmet(), key=lambda condition: condition.name)
        named = ", ".join(f"{c.name} ({c.reason})" if c.reason else c.name for c in unmet)
        return f"conditions not met: {named}" if named else ""
