"""Providers for applications that have none, and an end that never holds the exit up."""

import atexit
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self, cast

from opentelemetry import metrics, trace
from opentelemetry.util.types import AttributeValue

from orchestrator._hardening.log_thread import logger
from orchestrator._runtime.platform_identity import platform_attributes
from orchestrator.otel._machine_metrics import is_unset_meter_provider
from orchestrator.otel._setup.environment import (
    PROTOCOLS,
    Signal,
    batching,
    export_times,
    is_disabled,
    is_wanted,
    protocol_of,
    secrets,
)
from orchestrator.otel._setup.export_failures import warn_of, warn_of_signals
from orchestrator.otel._setup.exporters import make_exporter
from orchestrator.otel._setup.log_limit import ExporterLines
from orchestrator.otel._setup.provider_shutdown import ProviderShutdown
from orchestrator.otel._setup.switch_interval import SwitchInterval

if TYPE_CHECKING:  # the SDK is loaded by those who ask for it only
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

_SHUTDOWN_SECONDS = 0.8
"""With what leaving the orchestrator waits for, and the rest of the interpreter's end, an exit
takes less than 2 s longer."""

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
        lines: ExporterLines | None = None,
        switching: SwitchInterval | None = None,
    ) -> None:
        self._endings = tuple(map(ProviderShutdown, endings))
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
        elif self._lines is not None:
            self._lines.remove()
        if self._switching is not None:
            self._switching.restore()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.shutdown()


def setup_telemetry(
    service_name: str | None = None,
    *,
    endpoint: str | None = None,
    protocol: str | None = None,
    resource_attributes: Mapping[str, AttributeValue] | None = None,
    logs: bool = False,
    switch_interval_seconds: float | None = None,
) -> Telemetry:
    """Set up OpenTelemetry with OTLP exporters, where the application has not done so itself.

    A provider that is already set is left alone: then this does nothing. The environment variables
    of the OpenTelemetry SDK (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
    `OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_EXPORTER=none`, `OTEL_METRICS_EXPORTER=none`,
    `OTEL_SDK_DISABLED`) hold for all that is not given here. A signal's own variable, such as
    `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, goes before the general one.

    It may be called before a server forks its workers (gunicorn's `--preload`), over HTTP: each
    worker then sends on its own, under a `service.instance.id` of its own. Over gRPC call it in the
    worker, since a gRPC channel does not survive a fork. A process that is forked from a running
    service, such as one of a pool, sends no metrics: its counters are copies of its parent's.

    What cannot be set up, because of a bad variable or a missing package, is left out with one
    warning; the start goes on.

    Args:
        service_name: `service.name`; on Cloud Run, the service's own name if none is given.
        endpoint: The collector's base URL, such as `http://localhost:4318`, or
            `http://localhost:4317` for gRPC.
        protocol: `http` or `grpc`; the environment's, else `http`, which needs 22 MiB less memory.
        resource_attributes: More attributes of the resource.
        logs: Whether log events are sent too, for `OpenTelemetryObserver(events="log")`.
        switch_interval_seconds: `sys.setswitchinterval` until the end, for the whole process, where
            it is longer now. With 0.001 the threads that export keep the event loop waiting for
            less than with Python's own 0.005. `None` leaves it as it is.

    Returns:
        What ends it; use it as a context manager around the application.

    Raises:
        ValueError: When the protocol is unknown.
    """
    if protocol is not None and protocol not in PROTOCOLS:
        raise ValueError(f"unknown OTLP protocol {protocol!r}; it must be 'http' or 'grpc'")
    if is_disabled():
        logger.info("OTEL_SDK_DISABLED is set: no telemetry is set up")
        return Telemetry()
    try:
        if not _nothing_set():
            logger.info("the application has set an OpenTelemetry provider: it is used as it is")
            return Telemetry()
        resource = _resource(service_name, resource_attributes or {})
    except Exception as error:  # telemetry never ends a start
        warn_of(error)
        return Telemetry()
    signals = (*Signal,) if logs else (Signal.TRACES, Signal.METRICS)
    lines = ExporterLines(secrets(os.environ, endpoint))
    endings = _install(signals, resource, protocol, endpoint)
    if not endings:
        lines.remove()
        return Telemetry()
    switching = SwitchInterval(switch_interval_seconds) if switch_interval_seconds else None
    return Telemetry(endings, lines, switching)


def _nothing_set() -> bool:
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    return isinstance(tracers, trace.ProxyTracerProvider) and is_unset_meter_provider(meters)


def _install(
    signals: Sequence[Signal], resource: "Resource", protocol: str | None, endpoint: str | None
) -> list[Callable[[], object]]:
    """Make and set the providers, each as far as it can be; return what ends each."""
    endings: list[Callable[[], object]] = []
    install = {
        Signal.TRACES: _install_traces,
        Signal.METRICS: _install_metrics,
        Signal.LOGS: _install_logs,
    }
    failures: dict[str, Exception] = {}
    for signal in signals:
        try:
            exporter = None
            if is_wanted(signal):
                exporter = make_exporter(signal, protocol or protocol_of(signal), endpoint)
            elif signal is Signal.LOGS:
                continue
            endings.append(install[signal](resource, exporter))
        except Exception as error:  # telemetry never ends a start
            failures[signal] = error
    warn_of_signals(failures)
    return endings


def _install_traces(resource: "Resource", exporter: object) -> Callable[[], object]:
    from opentelemetry.sdk.trace import TracerProvider  # only when it is wanted
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # shutdown_on_exit would wait for the collector without a limit.
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if exporter is not None:
        waiting, at_once, delay, timeout = batching("BSP", _BATCH_DELAY_MILLIS)
        processor = BatchSpanProcessor(
            cast("SpanExporter", exporter), waiting, delay, at_once, timeout
        )
        tracers.add_span_processor(processor)
    trace.set_tracer_provider(tracers)
    return tracers.shutdown


def _install_metrics(resource: "Resource", exporter: object) -> Callable[[], object]:
    from opentelemetry.sdk.metrics import MeterProvider  # only when it is wanted

    from orchestrator.otel._setup.reader import Reader  # it loads the SDK

    readers = []
    if exporter is not None:
        readers.append(Reader(cast("MetricExporter", exporter), *export_times()))
    meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    metrics.set_meter_provider(meters)
    return meters.shutdown


def _install_logs(resource: "Resource", exporter: object) -> Callable[[], object]:
    from opentelemetry._logs import set_logger_provider  # only when it is wanted
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    loggers = LoggerProvider(resource=resource, shutdown_on_exit=False)
    waiting, at_once, delay, timeout = batching("BLRP", _BATCH_DELAY_MILLIS)
    processor = BatchLogRecordProcessor(
        cast("LogRecordExporter", exporter), delay, at_once, timeout, waiting
    )
    loggers.add_log_record_processor(processor)
    set_logger_provider(loggers)
    return loggers.shutdown


def _resource(service_name: str | None, given: Mapping[str, AttributeValue]) -> "Resource":
    """What is given, over the environment's, over what the platform says of itself."""
    from opentelemetry.sdk.resources import Resource  # only when it is wanted

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
