"""Every change of stage as a record of the standard library's logging."""

import logging

from orchestrator._ports import Observer
from states import (
    ConditionChanged,
    Fact,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
    TimerFired,
)
from states._machine import ENGINE_NAME

logger = logging.getLogger("orchestrator")


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Whether a line of the engine is about somebody else's machine.

    It logs two lines for each change of stage that say less than ours does.
    """
    args = record.args
    return not (isinstance(args, tuple) and args and str(args[0]).startswith(ENGINE_NAME))


logging.getLogger("transitions.core").addFilter(_is_not_ours)


class TransitionLog(Observer):
    """Logs one line for each change of stage, with `degraded` as a warning.

    For formatters that write structured logs, the record has the attributes `stage`,
    `previous_stage`, `stage_sequence` and `elapsed_seconds`.
    """

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # noqa: ARG002  the port's
        """Log a change of stage."""
        if changed is None:
            return
        level = logging.WARNING if changed.current is Stage.DEGRADED else logging.INFO
        logger.log(
            level,
            "%s -> %s after %.3f s: %s",
            changed.previous,
            changed.current,
            changed.elapsed_seconds,
            cause_in_words(changed),
            extra={
                "stage": changed.current.value,
                "previous_stage": changed.previous.value,
                "stage_sequence": changed.sequence,
                "elapsed_seconds": changed.elapsed_seconds,
            },
        )


def cause_in_words(changed: StageChanged) -> str:
    """Why the stage changed, for a person."""
    match changed.cause:
        case ProbeSucceeded(latency_seconds=latency):
            return f"Redis answered in {latency * 1000:.1f} ms"
        case ProbeFailed(failure=failure):
            return failure.reason
        case ConditionChanged(name=name, satisfied=True):
            return f"condition {name} holds"
        case ConditionChanged(name=name, reason=reason):
            return f"condition {name} is lost" + (f": {reason}" if reason else "")
        case TimerFired():
            return "grace is served" if changed.current is Stage.READY else "the budget is spent"
        case _:
            return "the process is set up"
