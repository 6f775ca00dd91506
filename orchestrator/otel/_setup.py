"""Providers for applications that have none, and an end that never holds the exit up."""

import atexit
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opentelemetry import metrics, trace
from opentelemetry.util.types import AttributeValue

from orchestrator._logging import logger
from orchestrator.otel._ending import Ending
from orchestrator.otel._exporters import PROTOCOLS, Exporters, make_exporters
from orchestrator.otel._log import LogLimit, limit_exporter_lines
from orchestrator.otel._metrics import is_unset_meter_provider
from orchestrator.otel._platform import platform_attributes
from orchestrator.otel._switching import SwitchInterval

if TYPE_CHECKING:  # the SDK is loaded by those who ask for it only
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

_SHUTDOWN_SECONDS = 0.8
"""With what leaving the orchestrator waits for, and the rest of the interpreter's end, an exit
takes less than 2 s longer."""

_SWITCH_SECONDS = 0.001
"""An export of thirty spans keeps the interpreter busy for 3 to 5 ms, and whoever waits for it gets
it after the switch interval: with Python's own 5 ms the event loop stalls for as long."""

_INSTANCE = "service.instance.id"

_BATCH_DELAY_MILLIS = 1000.0
"""How long spans wait for company, unless the environment says otherwise. A platform that ends a
service whose start failed does not wait the SDK's own 5 s."""


class Telemetry:
    """What `setup_telemetry` set up. Leave it, or call `shutdown`, at the end of the process.

    Leaving is also done at the interpreter's exit, for those who forget.

    Args:
        endings: What ends each provider; empty where nothing was set up.
        lines: The limit on the log lines of the exporters.
        switching: The interpreter's switch interval meanwhile.
    """

    def __init__(
        self,
        endings: Sequence[Callable[[], object]] = (),
        lines: LogLimit | None = None,
        switching: SwitchInterval | None = None,
    ) -> None:
        self._endings = tuple(map(Ending, endings))
        self._lines = lines
        self._switching = switching
        if endings:
            atexit.register(self.shutdown)

    @property
    def installed(self) -> bool:
        """Whether providers were set up that are still in use."""
        return bool(self._endings)

    def shutdown(self, timeout_seconds: float = _SHUTDOWN_SECONDS) -> None:
        """Send what is left, and end. Returns after `timeout_seconds` at the latest.

        It blocks: call it after the event loop has ended, or in a thread.
        """
        endings, self._endings = self._endings, ()
        if not endings:
            return
        atexit.unregister(self.shutdown)
        deadline = time.monotonic() + timeout_seconds
        threads = [ending.begin() for ending in endings]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            logger.warning(
                "the collector did not take all telemetry within %g s; the rest is lost",
                timeout_seconds,
            )
            if self._lines is not None:
                self._lines.close()
        if self._switching is not None:
            self._switching.restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()


def setup_telemetry(
    service_name: str | None = None,
    *,
    endpoint: str | None = None,
    protocol: str | None = None,
    resource_attributes: Mapping[str, AttributeValue] | None = None,
    logs: bool = False,
    switch_interval_seconds: float | None = _SWITCH_SECONDS,
) -> Telemetry:
    """Set up OpenTelemetry with OTLP exporters, where the application has not done so itself.

    A provider that is already set is left alone: then this does nothing. The environment variables
    of the OpenTelemetry SDK (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
    `OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_EXPORTER=none`, `OTEL_METRICS_EXPORTER=none`,
    `OTEL_SDK_DISABLED`) hold for all that is not given here.

    It may be called before a server forks its workers (gunicorn's `--preload`), over HTTP: each
    worker then sends on its own, under a `service.instance.id` of its own. Over gRPC call it in the
    worker, since a gRPC channel does not survive a fork. A process that is forked from a running
    service, such as one of a pool, sends no metrics: its counters are copies of its parent's.

    Args:
        service_name: `service.name`; on Cloud Run, the service's own name if nobody gives one.
        endpoint: The collector's base URL, such as `http://localhost:4318`, or
            `http://localhost:4317` for gRPC.
        protocol: `http` or `grpc`; the environment's, else `http`, which needs 22 MiB less memory.
        resource_attributes: More attributes of the resource.
        logs: Whether log events are sent too, for `OpenTelemetryObserver(events="log")`.
        switch_interval_seconds: `sys.setswitchinterval` until the end, where it is longer now, so
            that the threads that export do not keep the event loop waiting for 5 ms. `None` leaves
            it as it is.

    Returns:
        What ends it; use it as a context manager around the application.

    Raises:
        ValueError: When the protocol is unknown.
    """
    if protocol is not None and protocol not in PROTOCOLS:
        raise ValueError(f"unknown OTLP protocol {protocol!r}; it must be 'http' or 'grpc'")
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        logger.info("OTEL_SDK_DISABLED is set: no telemetry is set up")
        return Telemetry()
    if not _nothing_set():
        logger.info("the application has set an OpenTelemetry provider: it is used as it is")
        return Telemetry()
    resource = _resource(service_name, resource_attributes or {})
    lines = limit_exporter_lines()
    exporters = make_exporters(protocol or _given_protocol(), endpoint, logs=logs)
    switching = SwitchInterval(switch_interval_seconds) if switch_interval_seconds else None
    return Telemetry(_install(resource, exporters), lines, switching)


def _given_protocol() -> str:
    """The environment's. What the SDKs of other languages know must not end a start-up."""
    given = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip().lower() or "http"
    if given in PROTOCOLS:
        return given
    logger.warning(
        "OTEL_EXPORTER_OTLP_PROTOCOL is %r, which Python's exporters do not speak:"
        " telemetry is sent by http/protobuf",
        given,
    )
    return "http"


def _nothing_set() -> bool:
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    return isinstance(tracers, trace.ProxyTracerProvider) and is_unset_meter_provider(meters)


def _install(resource: "Resource", exporters: Exporters) -> list[Callable[[], object]]:
    """Make the providers, set them, and return what ends each."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415  only when it is wanted
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  the same

    from orchestrator.otel._reader import Reader  # noqa: PLC0415  it loads the SDK

    # shutdown_on_exit would wait for the collector without a limit.
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if _wanted("OTEL_TRACES_EXPORTER"):
        tracers.add_span_processor(_batching(exporters.spans))
    readers = []
    if _wanted("OTEL_METRICS_EXPORTER"):
        readers.append(Reader(exporters.metrics))
    meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    endings: list[Callable[[], object]] = [tracers.shutdown, meters.shutdown]
    if exporters.logs is not None and _wanted("OTEL_LOGS_EXPORTER"):
        endings.append(_install_logs(resource, exporters.logs))
    return endings


def _install_logs(resource: "Resource", exporter: "LogRecordExporter") -> Callable[[], object]:
    from opentelemetry._logs import set_logger_provider  # noqa: PLC0415  only when it is wanted
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415  the same
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415  the same

    loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
    loggers.add_log_record_processor(BatchLogRecordProcessor(exporter))
    set_logger_provider(loggers)
    return loggers.shutdown


def _batching(exporter: "SpanExporter") -> "SpanProcessor":
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  lazy

    given = os.environ.get("OTEL_BSP_SCHEDULE_DELAY")
    return BatchSpanProcessor(
        exporter, schedule_delay_millis=None if given else _BATCH_DELAY_MILLIS
    )


def _wanted(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() != "none"


def _resource(service_name: str | None, given: Mapping[str, AttributeValue]) -> "Resource":
    """What is given, over the environment's, over what the platform says of itself."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  only when it is wanted

    resource = Resource.create()
    named = not str(resource.attributes.get("service.name", "")).startswith("unknown_service")
    found = {
        name: value
        for name, value in platform_attributes(os.environ).items()
        if name not in resource.attributes or (name == "service.name" and not named)
    }
    name = {"service.name": service_name} if service_name else {}
    resource = resource.merge(Resource({**found, **given, **name}))
    if _INSTANCE in resource.attributes:
        return resource
    # Without it the metrics of two processes would be one series, each overwriting the other's.
    resource = resource.merge(Resource({_INSTANCE: str(uuid.uuid4())}))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _become_another(resource))
    return resource


def _become_another(resource: "Resource") -> None:
    """In a forked process: the resource is shared by all providers, so it is changed in place."""
    attributes = {**resource.attributes, _INSTANCE: str(uuid.uuid4())}
    type(resource).__init__(resource, attributes, resource.schema_url)
