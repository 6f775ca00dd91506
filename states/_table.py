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


_B, _P, _G, _R, _D = Stage

TABLE: tuple[Row, ...] = (
    Row(_B, (BootFinished,), Guard.ALWAYS, _P),
    Row(_P, (ProbeSucceeded,), Guard.ALWAYS, _G),
    Row(_P, (ProbeFailed,), Guard.PERMANENT, _D),
    Row(_P, (TimerFired,), Guard.BUDGET_SPENT, _D),
    Row(_G, (ProbeSucceeded, TimerFired, ConditionChanged), Guard.PROVED, _R),
    Row(_G, (ProbeFailed,), Guard.STARTUP_GOES_ON, _P),
    Row(_G, (ProbeFailed,), Guard.ALWAYS, _D),
    Row(_G, (TimerFired,), Guard.BUDGET_SPENT_UNMET, _D),
    Row(_G, (ConditionChanged,), Guard.REQUIRED_LOST_LATER, _D),
    Row(_R, (ProbeFailed,), Guard.FAILURES_CONFIRMED, _D),
    Row(_R, (ConditionChanged,), Guard.REQUIRED_LOST, _D),
    Row(_D, (ProbeSucceeded, ConditionChanged), Guard.RECOVERABLE, _G),
)
"""Every way from one stage to another; of the rows that fit a fact, the first whose guard holds."""

_RUNNING: frozenset[type[Fact]] = frozenset(
    {ProbeSucceeded, ProbeFailed, ConditionChanged, TimerFired, DrainBegan}
)

LEGAL: dict[Stage, frozenset[type[Fact]]] = {
    _B: frozenset({BootFinished, ConditionChanged}),
    _P: _RUNNING,
    _G: _RUNNING,
    _R: _RUNNING,
    _D: _RUNNING,
}
"""The facts that can be true in each stage; any other raises `IllegalFact` and changes nothing."""
