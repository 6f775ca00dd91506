"""THE transition table: the only truth about which fact leads from where to where.

The engine is built from it, and so are the diagram and `docs/reference/stages.md`. The rows of a
stage are tried from top to bottom; the first whose guard holds is taken. A fact that is legal in a
stage, and for which no row holds, only counts. Any other fact is illegal there. After `DrainBegan`
no row is taken any more: every fact only counts.
"""

from enum import StrEnum

from states._facts import (
    BootFinished,
    ConditionChanged,
    DrainBegan,
    Fact,
    ProbeFailed,
    ProbeSucceeded,
    TimerFired,
)
from states._records import record
from states._stages import Stage


class Guard(StrEnum):
    """What must be true, besides the fact, for a row to be taken. The values say it in words."""

    ALWAYS = "always"
    PERMANENT = "the failure is permanent"
    BUDGET_SPENT = "the start-up budget is spent"
    PROVED = "grace is served and every required condition holds"
    BUDGET_SPENT_UNMET = "the budget is spent and a required condition does not hold"
    STARTUP_GOES_ON = "still in start-up, the failure is transient and budget is left"
    FAILURES_CONFIRMED = "the failures in a row reach failures_to_degrade"
    REQUIRED_LOST = "a required condition does not hold"
    REQUIRED_LOST_LATER = "a required condition does not hold, start-up being over"
    RECOVERABLE = "Redis answers and every required condition holds"


@record
class Row:
    """One line of the table: in `source`, one of `facts`, when `guard` holds, leads to `target`."""

    source: Stage
    facts: tuple[type[Fact], ...]
    guard: Guard
    target: Stage


TABLE: tuple[Row, ...] = (
    Row(Stage.BOOTING, (BootFinished,), Guard.ALWAYS, Stage.PROBING_REDIS),
    Row(Stage.PROBING_REDIS, (ProbeSucceeded,), Guard.ALWAYS, Stage.GRACE),
    Row(Stage.PROBING_REDIS, (ProbeFailed,), Guard.PERMANENT, Stage.DEGRADED),
    Row(Stage.PROBING_REDIS, (TimerFired,), Guard.BUDGET_SPENT, Stage.DEGRADED),
    Row(Stage.GRACE, (ProbeSucceeded, TimerFired, ConditionChanged), Guard.PROVED, Stage.READY),
    Row(Stage.GRACE, (ProbeFailed,), Guard.STARTUP_GOES_ON, Stage.PROBING_REDIS),
    Row(Stage.GRACE, (ProbeFailed,), Guard.ALWAYS, Stage.DEGRADED),
    Row(Stage.GRACE, (TimerFired,), Guard.BUDGET_SPENT_UNMET, Stage.DEGRADED),
    Row(Stage.GRACE, (ConditionChanged,), Guard.REQUIRED_LOST_LATER, Stage.DEGRADED),
    Row(Stage.READY, (ProbeFailed,), Guard.FAILURES_CONFIRMED, Stage.DEGRADED),
    Row(Stage.READY, (ConditionChanged,), Guard.REQUIRED_LOST, Stage.DEGRADED),
    Row(Stage.DEGRADED, (ProbeSucceeded, ConditionChanged), Guard.RECOVERABLE, Stage.GRACE),
)
"""Every way from one stage to another; of the rows that fit a fact, the first whose guard holds."""

_RUNNING: frozenset[type[Fact]] = frozenset(
    {ProbeSucceeded, ProbeFailed, ConditionChanged, TimerFired, DrainBegan}
)

LEGAL: dict[Stage, frozenset[type[Fact]]] = {
    Stage.BOOTING: frozenset({BootFinished, ConditionChanged}),
    Stage.PROBING_REDIS: _RUNNING,
    Stage.GRACE: _RUNNING,
    Stage.READY: _RUNNING,
    Stage.DEGRADED: _RUNNING,
}
"""The facts that can be true in each stage; any other raises `IllegalFact` and changes nothing."""
