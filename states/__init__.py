"""The pure core: stages, facts, policy, the transition table and the machine that runs it.

Nothing here does I/O, reads a clock or starts a task; time enters only inside facts.
"""

from states._errors import IllegalFact, PolicyError
from states._events import ConditionState, Missing, Snapshot, StageChanged
from states._facts import (
    BootFinished,
    ConditionChanged,
    DrainBegan,
    Fact,
    Failure,
    FailureKind,
    ProbeFailed,
    ProbeSucceeded,
    TimerFired,
)
from states._machine import StartupMachine
from states._policy import Platform, Policy
from states._stages import Stage
from states._table import LEGAL, TABLE, Guard, Row

__all__ = [
    "LEGAL",
    "TABLE",
    "BootFinished",
    "ConditionChanged",
    "ConditionState",
    "DrainBegan",
    "Fact",
    "Failure",
    "FailureKind",
    "Guard",
    "IllegalFact",
    "Missing",
    "Platform",
    "Policy",
    "PolicyError",
    "ProbeFailed",
    "ProbeSucceeded",
    "Row",
    "Snapshot",
    "Stage",
    "StageChanged",
    "StartupMachine",
    "TimerFired",
]
