"""Event-driven start-up for services with Redis and WebSockets.

`Orchestrator` runs the state machine of `states` beside an application. Importing this package
loads the standard library, anyio and transitions only; `orchestrator.redis`, `orchestrator.otel`,
`orchestrator.asgi` and the rest are imported where they are used.
"""

from orchestrator._conditions import Condition, ConditionSpec
from orchestrator._errors import (
    AlreadyStarted,
    DuplicateCondition,
    NotRunning,
    OrchestratorError,
    StartupTimeout,
    Stopped,
    UnknownCondition,
    WrongThread,
)
from orchestrator._explain import Explanation
from orchestrator._feed import Subscription
from orchestrator._orchestrator import Orchestrator
from orchestrator._ports import (
    Clock,
    GateFigures,
    GateMetrics,
    Observer,
    Probe,
    ProbeResult,
    StartupContext,
    Target,
)
from states import (
    BootFinished,
    ConditionChanged,
    ConditionState,
    Fact,
    Failure,
    FailureKind,
    IllegalFact,
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
    "AlreadyStarted",
    "BootFinished",
    "Clock",
    "Condition",
    "ConditionChanged",
    "ConditionSpec",
    "ConditionState",
    "DuplicateCondition",
    "Explanation",
    "Fact",
    "Failure",
    "FailureKind",
    "GateFigures",
    "GateMetrics",
    "IllegalFact",
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
    "Stopped",
    "Subscription",
    "Target",
    "TimerFired",
    "UnknownCondition",
    "WrongThread",
]
