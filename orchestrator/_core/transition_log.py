"""Every change of stage as a record of the standard library's logging."""

from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Observer, StartupContext
from states import (
    ConditionChanged,
    Fact,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
    TimerFired,
)


class Lack:
    """What a start-up lacks, gathered from its facts: that is why its budget was not enough.

    Hand it what an observer is told, and before the words are asked for.
    """

    def __init__(self) -> None:
        self._failure = "no attempt had ended"
        self._answers = False
        self._missing: dict[str, str] = {}
        self._required: frozenset[str] = frozenset()

    def started(self, context: StartupContext) -> None:
        """Begin with the conditions that are required: none holds yet."""
        required = (name for name, needed in context.conditions.items() if needed)
        self._missing = dict.fromkeys(required, "")
        self._required = frozenset(self._missing)

    def observed(self, fact: Fact) -> None:
        """Take a fact."""
        match fact:
            case ProbeSucceeded():
                self._answers = True
            case ProbeFailed(failure=failure):
                self._answers, self._failure = False, failure.reason
            case ConditionChanged(name=name, satisfied=True):
                self._missing.pop(name, None)
            case ConditionChanged(name=name, reason=reason) if name in self._required:
                self._missing[name] = reason

    def in_words(self) -> str:
        """What is lacking now; of conditions only while Redis answers: they may need it."""
        if not self._answers:
            return self._failure
        return "; ".join(
            f"condition {name} does not hold" + (f" ({reason})" if reason else "")
            for name, reason in self._missing.items()
        )


class TransitionLog(Observer):
    """Logs one line for each change of stage, with `degraded` as a warning.

    For formatters that write structured logs, the record has the attributes `orchestrator_stage`,
    `orchestrator_previous_stage`, `orchestrator_stage_sequence` and `orchestrator_elapsed_seconds`.
    Where the application sets one of these on its records, its value stays.
    """

    def __init__(self) -> None:
        self._lack = Lack()
        self._probe = ""

    def started(self, context: StartupContext) -> None:
        """Remember what is required."""
        self._lack.started(context)
        self._probe = context.target.name

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Log a change of stage."""
        self._lack.observed(fact)
        if changed is None:
            return
        log = logger.warning if changed.current is Stage.DEGRADED else logger.info
        log(
            "%s -> %s after %.3f s: %s",
            changed.previous,
            changed.current,
            changed.elapsed_seconds,
            cause_in_words(changed, self._lack.in_words(), self._probe),
            extra={
                "stage": changed.current.value,
                "previous_stage": changed.previous.value,
                "stage_sequence": changed.sequence,
                "elapsed_seconds": changed.elapsed_seconds,
            },
        )


def cause_in_words(changed: StageChanged, lack: str = "", probe: str = "Redis") -> str:
    """Why the stage changed, for a person.

    Args:
        changed: The change.
        lack: What was lacking then, if it is known: a `TimerFired` does not tell. See `Lack`.
        probe: What is asked, by name.
    """
    match changed.cause:
        case ProbeSucceeded(latency_seconds=latency):
            return f"{probe} answered in {latency * 1000:.1f} ms"
        case ProbeFailed(failure=failure):
            return failure.reason
        case ConditionChanged(name=name, satisfied=True):
            return f"condition {name} holds"
        case ConditionChanged(name=name, reason=reason):
            return f"condition {name} is lost" + (f": {reason}" if reason else "")
        case TimerFired():
            spent = "the budget is spent" + (f": {lack}" if lack else "")
            return "grace is served" if changed.current is Stage.READY else spent
        case _:
            return "the process is set up"
