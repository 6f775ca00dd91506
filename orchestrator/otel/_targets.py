"""What is asked, in the names of OpenTelemetry's semantic conventions."""

from opentelemetry.util.types import AttributeValue

from orchestrator._ports import Target

_SYSTEM = {
    "http": "",  # its method says it
    "tcp": "network.transport",
    "file": "",
    "rabbitmq": "messaging.system",
    "kafka": "messaging.system",
    "grpc": "rpc.system.name",
}
"""Where the name of a system goes, if it is no database."""

_OPERATION = {
    "http": "http.request.method",
    "tcp": "",
    "file": "",
    "rabbitmq": "messaging.operation.name",
    "kafka": "messaging.operation.name",
    "grpc": "rpc.method",
}

_CALL = "call"
"""The operation of a probe that is a function of the application; its system is the function."""


def target_attributes(target: Target, *, operation: bool = False) -> dict[str, AttributeValue]:
    """What is asked; what is unknown is left out.

    Args:
        target: What is asked.
        operation: Whether to say what is done with it, too.
    """
    system = target.system
    if target.operation == _CALL:
        return {"code.function.name": system} if system else {}
    known: dict[str, AttributeValue | None] = {
        _SYSTEM.get(system, "db.system.name"): system or None,
        "db.namespace": target.namespace or None,
        "file.path" if system == "file" else "server.address": target.address or None,
        "server.port": target.port,
    }
    if operation:
        known[_OPERATION.get(system, "db.operation.name")] = _done(target) or None
    return {name: value for name, value in known.items() if name and value is not None}


def attempt_name(target: Target) -> str:
    """The name of the span of an attempt: what is really done."""
    if target.operation == _CALL:
        return f"{_CALL} {target.system}"
    return _done(target) or target.system or "attempt"


def _done(target: Target) -> str:
    return target.operation or ("PING" if target.system == "redis" else "")
