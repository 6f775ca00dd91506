"""What health checks are answered, whoever asks and however: one verdict for each endpoint.

HTTP endpoints, gRPC, a file: all of them say what this says, so that they never disagree.
"""

from dataclasses import dataclass
from enum import StrEnum

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.admission import recovering
from states import Stage


class HealthVerdict(StrEnum):
    """The words of `application/health+json`."""

    PASS = "pass"  # noqa: S105  no password
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRules:
    """What a service that is degraded says of itself; see `health_app`.

    Attributes:
        drain_when_degraded: Not ready when a service that was ready is degraded.
        admit_degraded: Ready, too, when a service that never was ready is degraded.
    """

    drain_when_degraded: bool = False
    admit_degraded: bool = False


def verdict_on(path: str, startup: Orchestrator, rules: HealthRules) -> HealthVerdict:
    """What an endpoint says now.

    Args:
        path: One of `HEALTH_PATHS`.
        startup: The orchestrator.
        rules: What a service that is degraded says of itself.
    """
    if startup.ended is not None:
        return HealthVerdict.FAIL
    if path == "/readyz" and startup.draining:
        return HealthVerdict.FAIL
    stage = startup.stage
    degraded = stage is Stage.DEGRADED or recovering(startup)
    if path == "/livez" or stage is Stage.READY:
        return HealthVerdict.PASS
    if path == "/startupz":
        return HealthVerdict.PASS if degraded else HealthVerdict.FAIL
    serves = not rules.drain_when_degraded if startup.was_ready else rules.admit_degraded
    return HealthVerdict.WARN if degraded and serves else HealthVerdict.FAIL
