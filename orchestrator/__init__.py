"""Event-driven start-up for services with Redis and WebSockets.

`Orchestrator` runs the state machine of `states` beside an application. What is named here is
loaded when it is first used, and needs the standard library, anyio and transitions only;
`orchestrator.redis`, `orchestrator.otel`, `orchestrator.asgi` and the rest are imported where they
are used.
"""

from importlib import import_module

# As type checkers know it: `typing` alone would take most of the time of this import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator._core.account import Account, AccountStep, StepKind
    from orchestrator._core.conditions import Condition, ConditionSpec
    from orchestrator._core.explanation import Explanation
    from orchestrator._core.feed import Subscription
    from orchestrator._core.orchestrator import Orchestrator
    from orchestrator._errors import (
        AlreadyStarted,
        ConditionOrderError,
        DuplicateCondition,
        NotRunning,
        OrchestratorError,
        StartupTimeout,
        Stopped,
        UnknownCondition,
        WrongThread,
    )
    from orchestrator._gate.metrics import GateFigures, GateMetrics
    from orchestrator._ports import (
        Clock,
        KeptFact,
        KeptStep,
        Observer,
        Probe,
        ProbeResult,
        StartupContext,
        Target,
    )
    from orchestrator.checks._check import Check
    from orchestrator.checks._task import Task
    from states import (
        BootFinished,
        ConditionChanged,
        ConditionState,
        DrainBegan,
        Fact,
        Failure,
        FailureKind,
        IllegalFact,
        Missing,
        Platform,
        Policy,
        PolicyError,
        ProbeFailed,
        ProbeSucceeded,
        Snapshot,
        Stage,
        StageChanged,
        StartupMachine,
        TimerFired,
    )

__version__ = "0.1.0"

__all__ = [
    "Account",
    "AccountStep",
    "AlreadyStarted",
    "BootFinished",
    "Check",
    "Clock",
    "Condition",
    "ConditionChanged",
    "ConditionOrderError",
    "ConditionSpec",
    "ConditionState",
    "DrainBegan",
    "DuplicateCondition",
    "Explanation",
    "Fact",
    "Failure",
    "FailureKind",
    "GateFigures",
    "GateMetrics",
    "IllegalFact",
    "KeptFact",
    "KeptStep",
    "Missing",
    "NotRunning",
    "Observer",
    "Orchestrator",
    "OrchestratorError",
    "Platform",
    "Policy",
    "PolicyError",
    "Probe",
    "ProbeFailed",
    "ProbeResult",
    "ProbeSucceeded",
    "Snapshot",
    "Stage",
    "StageChanged",
    "StartupContext",
    "StartupMachine",
    "StartupTimeout",
    "StepKind",
    "Stopped",
    "Subscription",
    "Target",
    "Task",
    "TimerFired",
    "UnknownCondition",
    "WrongThread",
]

_MODULES = {
    "orchestrator._core.account": ("Account", "AccountStep", "StepKind"),
    "orchestrator._core.conditions": ("Condition", "ConditionSpec"),
    "orchestrator.checks._check": ("Check",),
    "orchestrator.checks._task": ("Task",),
    "orchestrator._errors": (
        "AlreadyStarted",
        "ConditionOrderError",
        "DuplicateCondition",
        "NotRunning",
        "OrchestratorError",
        "StartupTimeout",
        "Stopped",
        "UnknownCondition",
        "WrongThread",
    ),
    "orchestrator._core.explanation": ("Explanation",),
    "orchestrator._core.feed": ("Subscription",),
    "orchestrator._core.orchestrator": ("Orchestrator",),
    "orchestrator._gate.metrics": ("GateFigures", "GateMetrics"),
    "orchestrator._ports": (
        "Clock",
        "KeptFact",
        "KeptStep",
        "Observer",
        "Probe",
        "ProbeResult",
        "StartupContext",
        "Target",
    ),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


if not TYPE_CHECKING:  # with this function, a type checker would take every name for known

    def __getattr__(name: str) -> object:
        """Load a name when it is first asked for, as anyio does with its own."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(_MODULE_OF.get(name, "states")), name)
        globals()[name] = value  # the next time it is found without this function
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
