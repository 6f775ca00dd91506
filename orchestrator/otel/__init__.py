"""OpenTelemetry: a start-up as one readable trace, and its metrics.

Example::

    from orchestrator.otel import OpenTelemetryObserver, setup_telemetry

    with setup_telemetry("chat"):  # only where the application has no provider of its own
        ...
        startup = Orchestrator(RedisProbe(url), observers=[OpenTelemetryObserver()])

A gate is measured by `ReadinessGate(app, startup, metrics=OpenTelemetryGateMetrics())`, a fleet by
`OpenTelemetryFleetMetrics`.

The observer needs the OpenTelemetry API only; the SDK is loaded by `setup_telemetry` alone.
"""

from orchestrator.otel._fleet_metrics import (
    FleetPublisher,
    FleetReadings,
    OpenTelemetryFleetMetrics,
    PublishingFigures,
)
from orchestrator.otel._gate_metrics import OpenTelemetryGateMetrics
from orchestrator.otel._observer import OpenTelemetryObserver
from orchestrator.otel._setup.telemetry import Telemetry, setup_telemetry

__all__ = [
    "FleetPublisher",
    "FleetReadings",
    "OpenTelemetryFleetMetrics",
    "OpenTelemetryGateMetrics",
    "OpenTelemetryObserver",
    "PublishingFigures",
    "Telemetry",
    "setup_telemetry",
]
