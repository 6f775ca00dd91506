"""What a service waits for, from what can be reached of it: not each tells."""

from http import HTTPStatus

from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.foreign_text import listed, shown
from orchestrator.cli.query.client import HttpAddress, get

HEALTH_PATHS = ("/readyz", "/health/readyz")
PAGE = "/startup"

_BY_STAGE = {
    "booting": "the application to enter the orchestrator",
    "probing_redis": "Redis to answer",
    "grace": "grace to be served, or a required condition to hold",
    "degraded": "Redis to answer again, or a required condition to hold",
}


def by_stage(stage: str) -> tuple[str, ...]:
    """What a stage waits for, where the service itself does not tell; for a person."""
    return (_BY_STAGE[stage],) if stage in _BY_STAGE else ()


def from_page(address: HttpAddress, timeout_seconds: float) -> tuple[str, ...]:
    """What the status page of the same service tells, if it has one where it usually is."""
    page = HttpAddress(address.tls, address.host, address.port, f"{PAGE}/state")
    try:
        answer = get(page, timeout_seconds)
    except UserError:
        return ()
    data = answer.as_object() if answer.status == HTTPStatus.OK else None
    return tuple(listed((data or {}).get("waits_for")))


def from_health(address: HttpAddress, timeout_seconds: float, first: str = "") -> list[str]:
    """What the health endpoint of a service without a page tells, as lines; empty for none.

    Args:
        address: The service.
        timeout_seconds: How long each answer may take.
        first: The path that is asked first, if one is known.
    """
    for path in (first, *HEALTH_PATHS) if first else HEALTH_PATHS:
        health = HttpAddress(address.tls, address.host, address.port, path)
        try:
            data = get(health, timeout_seconds).as_object() or {}
        except UserError:
            continue
        stage = data.get("stage")
        if isinstance(stage, str):
            waits = listed(data.get("waits_for")) or by_stage(stage)
            output = [f"ended: {shown(data['output'])}"] if data.get("output") else []
            lines = [f"{shown(stage)}, says {shown(path)}", *output]
            return [*lines, *(f"waits for: {what}" for what in waits)]
    return []
