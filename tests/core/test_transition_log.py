"""What the log says of a change of stage that its cause alone does not tell."""

import pytest

from orchestrator._core.transition_log import Lack, TransitionLog, cause_in_words
from orchestrator._ports import StartupContext, Target
from states import (
    BootFinished,
    ConditionChanged,
    Fact,
    Failure,
    FailureKind,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
    TimerFired,
)

CONTEXT = StartupContext(
    Policy(), Target(), {"listener": True, "schema": True, "cache": False}, 0.0, 1.0, 0
)
REFUSED = ProbeFailed(2.0, 0.1, Failure(FailureKind.TRANSIENT, "X", "it refused"))
ANSWERED = ProbeSucceeded(3.0, 0.1)
LOST = ConditionChanged(4.0, "schema", satisfied=False, reason="no table")
OPTIONAL = ConditionChanged(4.0, "cache", satisfied=False, reason="cold")
HOLDS = ConditionChanged(5.0, "listener", satisfied=True)


def lack_after(*facts: Fact) -> str:
    lack = Lack()
    lack.started(CONTEXT)
    for fact in facts:
        lack.observed(fact)
    return lack.in_words()


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ([BootFinished(1.0)], "no attempt had ended"),
        ([REFUSED], "it refused"),
        ([LOST, REFUSED], "it refused"),
        ([ANSWERED, REFUSED], "it refused"),
        ([ANSWERED], "condition listener does not hold; condition schema does not hold"),
        ([REFUSED, ANSWERED, HOLDS, LOST], "condition schema does not hold (no table)"),
        ([ANSWERED, HOLDS, LOST, OPTIONAL], "condition schema does not hold (no table)"),
    ],
)
def test_what_is_lacking(facts: list[Fact], wanted: str) -> None:
    assert lack_after(*facts) == wanted


def test_the_log_says_why_the_budget_was_not_enough(caplog: pytest.LogCaptureFixture) -> None:
    log = TransitionLog()
    log.started(CONTEXT)
    log.observed(REFUSED, None)
    spent = TimerFired(31.0)
    log.observed(spent, StageChanged(2, Stage.PROBING_REDIS, Stage.DEGRADED, spent, 31.0, 30.0))
    assert caplog.messages == [
        "probing_redis -> degraded after 30.000 s: the budget is spent: it refused"
    ]


def test_where_nobody_knows_it_the_words_are_those_of_the_cause() -> None:
    spent = TimerFired(31.0)
    changed = StageChanged(2, Stage.PROBING_REDIS, Stage.DEGRADED, spent, 31.0, 30.0)
    assert cause_in_words(changed) == "the budget is spent"
