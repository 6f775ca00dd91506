"""The verdict of each health endpoint, whoever asks and however.

HTTP endpoints, gRPC and the heartbeat file all use it, so they never disagree.
"""

from enum import StrEnum

from orchestrator._core.conditions import name_as_kept
from orchestrator._core.orchestrator import Orchestrator
from orchestrator._core.order import PROBE
from states import Stage
from states._records import keyword_record


class HealthVerdict(StrEnum):
    """The words of `application/health+json`."""

    PASS = "pass"  # noqa: S105  no password
    WARN = "warn"
    FAIL = "fail"


@keyword_record
class HealthRules:
    """What a degraded service says of itself; see `health_app`.

    Attributes:
        drain_when_degraded: Not ready when a service that was ready is degraded.
        admit_degraded: Ready, too, when a service that never was ready is degraded.
    """

    drain_when_degraded: bool = False
    admit_degraded: bool = False


def verdict_on(
    path: str, startup: Orchestrator, rules: HealthRules, exclude: frozenset[str] = frozenset()
) -> HealthVerdict:
    """What an endpoint says now.

    All of them fail where only a restart helps, `/livez` too, so that the platform restarts it.

    Args:
        path: One of `HEALTH_PATHS`.
        startup: The orchestrator.
        rules: What a service that is degraded says of itself.
        exclude: The conditions that `/readyz` leaves out; `redis` is the orchestrator's own probe.
    """
    if startup.ended is not None or (path == "/readyz" and startup.draining):
        return HealthVerdict.FAIL
    # A task that is down for good because the service ends needs no restart.
    if not startup.draining and not exclude.issuperset(startup.down_for_good):
        return HealthVerdict.FAIL
    stage = startup.stage
    degraded = stage is Stage.DEGRADED or recovering(startup)
    if path == "/livez" or (path == "/startupz" and stage is Stage.READY):
        return HealthVerdict.PASS
    if path == "/readyz" and (stage is Stage.READY or _would_be_ready(startup, exclude)):
        return HealthVerdict.WARN if _optional_fails(startup, exclude) else HealthVerdict.PASS
    if path == "/startupz":
        over = degraded and startup.loading is None
        return HealthVerdict.PASS if over else HealthVerdict.FAIL
    serves = not rules.drain_when_degraded if startup.was_ready else rules.admit_degraded
    return HealthVerdict.WARN if degraded and serves else HealthVerdict.FAIL


def verdict_of(name: str, startup: Orchestrator) -> HealthVerdict | None:
    """Whether a condition holds now; `None` where there is none of this name.

    Args:
        name: Its name; `redis` is the orchestrator's own probe.
        startup: The orchestrator.
    """
    known, name = startup.snapshot, name_as_kept(name)
    if name != PROBE and name not in known.conditions:
        return None
    holds = known.probe_answers if name == PROBE else known.conditions[name].satisfied
    if startup.ended is not None or (startup.enabled and not holds):
        return HealthVerdict.FAIL
    return HealthVerdict.PASS


def _would_be_ready(startup: Orchestrator, exclude: frozenset[str]) -> bool:
    """Whether only what is left out is missing."""
    if not exclude or startup.stage is Stage.BOOTING:
        return False
    known = startup.snapshot
    missing = {lack.name or PROBE for lack in known.waits_for}
    proving = known.stage is Stage.GRACE and known.grace_left_seconds > 0
    return bool(missing) and missing <= exclude and not proving


def _optional_fails(startup: Orchestrator, exclude: frozenset[str]) -> bool:
    if not startup.optional or not startup.enabled:
        return False
    conditions = startup.snapshot.conditions
    return any(not conditions[name].satisfied for name in startup.optional - exclude)


def recovering(startup: Orchestrator) -> bool:
    """Whether the service is in the grace that follows degraded.

    Clients and health checks do not see this as a start-up: an answer that got worse just when the
    service gets better would drain a fleet at the wrong moment.
    """
    latest = startup.latest
    return (
        latest is not None and latest.current is Stage.GRACE and latest.previous is Stage.DEGRADED
    )
