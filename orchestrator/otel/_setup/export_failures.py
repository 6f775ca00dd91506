"""What is said of telemetry that cannot be set up: which variable or package, and never a value."""

import re
from collections.abc import Mapping

from orchestrator._hardening.log_thread import logger
from orchestrator.otel._setup.environment import names_set

_PACKAGES = {
    "opentelemetry.exporter.otlp.proto.grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry.exporter": "opentelemetry-exporter-otlp",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "grpc": "grpcio",
    "google.protobuf": "protobuf",
}
"""What to install for a module that is missing; the first that fits."""


def warn_of(error: Exception) -> None:
    """Say that nothing could be set up, and where to look."""
    logger.warning("telemetry is not set up: %s", _cause(error))


def warn_of_signals(failures: Mapping[str, Exception]) -> None:
    """Say it of some signals, in one line for each cause."""
    by_cause: dict[str, list[str]] = {}
    for what, error in failures.items():
        by_cause.setdefault(_cause(error), []).append(what)
    for cause, signals in by_cause.items():
        logger.warning("telemetry: no %s are sent: %s", " and no ".join(signals), cause)


def _cause(error: Exception) -> str:
    if isinstance(error, ImportError):
        module = error.name or ""
        found = (name for key, name in _PACKAGES.items() if f"{module}.".startswith(f"{key}."))
        return f"{next(found, module or 'a package')} is not installed, or cannot be imported"
    # The text of the SDK's errors may hold the value of the variable.
    names = sorted(set(re.findall(r"\bOTEL_[A-Z0-9_]+", str(error)))) or names_set()
    where = f"; check {', '.join(names)}" if names else ""
    return f"OpenTelemetry's SDK raised {type(error).__name__}{where}"
