"""What the demo's service tells the demo, one JSON line each. Both sides are typed by this."""

import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import get_args

SERVICE_NAME = "chat-demo"
"""The `service.name` of the demo's traces."""


class Protection(StrEnum):
    """How the service protects early clients."""

    GATE = "gate"
    """An orchestrator and the readiness gate."""

    NONE = "none"
    """Nothing: the background task is started, and the port opens."""

    SLEEP = "sleep"
    """The blocking check: the event loop sleeps until Redis answers, and 0.5 s more."""

    FULL = "full"
    """The gate, and an orchestrator that also keeps checks and tasks."""


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """What the service is started with.

    Attributes:
        gate: The `Protection`.
        redis_url: Where Redis will listen, on the loopback interface.
        port: Where the service shall listen; 0 lets the system choose.
        settle_seconds: How long the background task needs after Redis answers.
        grace_seconds: The grace of the policy.
        database_url: Where the database will be; empty where there is none, as in most runs.
        upstream_url: Where the HTTP service is; empty in most runs.
    """

    gate: str
    redis_url: str
    port: int
    settle_seconds: float
    grace_seconds: float
    database_url: str = ""
    upstream_url: str = ""


@dataclass(frozen=True, slots=True)
class Listening:
    """The service's port is open since `at`, in monotonic seconds like every `at` here."""

    at: float
    port: int


@dataclass(frozen=True, slots=True)
class StageReport:
    """The service went from one stage to another; the fields are those of `StageChanged`."""

    at: float
    previous: str
    current: str
    elapsed_seconds: float
    cause: str


@dataclass(frozen=True, slots=True)
class ListenerReport:
    """The background task came up, or was lost."""

    at: float
    up: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ConditionReport:
    """A condition came to hold, or does not hold."""

    at: float
    name: str
    holds: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OrderReport:
    """Which conditions come after which others."""

    at: float
    after: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class AccountReport:
    """Where the start went, in one line."""

    at: float
    line: str


@dataclass(frozen=True, slots=True)
class Status:
    """How the service is now; sent several times a second, and once more at its end.

    Attributes:
        at: When this was true.
        max_loop_stall_seconds: The longest time for which the event loop ran nothing so far.
        stage: The current stage; empty where there is no orchestrator.
        attempts: The attempts of the probe so far.
        last_failure: Why the last failed attempt failed.
        waits_for: What must become true before ready.
        held: The clients that the gate holds now.
        admitted: The clients that it has admitted.
        refused: The clients that it has refused.
    """

    at: float
    max_loop_stall_seconds: float
    stage: str = ""
    attempts: int = 0
    last_failure: str = ""
    waits_for: list[str] = field(default_factory=list)
    held: int = 0
    admitted: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True)
class SpanReport:
    """A span that ended, as the OpenTelemetry SDK handed it over. Times are Unix nanoseconds.

    Attributes:
        events: The name and time of each span event, and the stage that it leads to, if any.
        error: The `error.type`; empty where the span has none.
    """

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start: int
    end: int
    events: list[tuple[str, int, str]]
    error: str


DemoReport = (
    Listening
    | StageReport
    | ListenerReport
    | ConditionReport
    | OrderReport
    | AccountReport
    | Status
    | SpanReport
)

_KINDS: dict[str, type[DemoReport]] = {kind.__name__: kind for kind in get_args(DemoReport)}


def encode(report: DemoReport) -> bytes:
    """One line for a report."""
    return json.dumps([type(report).__name__, asdict(report)]).encode() + b"\n"


def decode(line: bytes) -> DemoReport:
    """The report of a line.

    Raises:
        ValueError: When it is none.
    """
    kind, fields = json.loads(line)
    return _KINDS[kind](**fields)


def export_endpoint() -> str | None:
    """Where traces are exported to besides, if anywhere: the OpenTelemetry SDK's own variables."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)
