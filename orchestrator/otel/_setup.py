"""Providers for applications that have none, and an end that never holds the exit up."""

import atexit
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opentelemetry import metrics, trace
from opentelemetry.util.types import AttributeValue

from orchestrator.otel._log import LogLimit, limit_exporter_lines
from orchestrator.otel._metrics import is_unset_meter_provider
from orchestrator.otel._platform import platform_attributes

if TYPE_CHECKING:  # the SDK is loaded by those who ask for it only
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

logger = logging.getLogger("orchestrator")

_SHUTDOWN_SECONDS = 1.8
"""With the rest of the interpreter's end, an exit takes less than 2 s longer."""

_EXPORT_TIMEOUT_SECONDS = 2.0
"""One export with all its retries, unless the environment says otherwise. The SDK's own 10 s would
outlast every shutdown, and a refusing collector be asked for as long."""

_BATCH_DELAY_MILLIS = 1000.0
"""How long spans wait for company, unless the environment says otherwise. A platform that ends a
service whose start failed does not wait the SDK's own 5 s."""

_PROTOCOLS = {"http": "http", "http/protobuf": "http", "grpc": "grpc"}


class Telemetry:
    """What `setup_telemetry` set up. Leave it, or call `shutdown`, at the end of the process.

    Leaving is also done at the interpreter's exit, for those who forget.

    Args:
        endings: What ends each provider; empty where nothing was set up.
        lines: The limit on the log lines of the exporters.
    """

    def __init__(
        self, endings: Sequence[Callable[[], object]] = (), lines: LogLimit | None = None
    ) -> None:
        self._endings = tuple(map(_Ending, endings))
        self._lines = lines
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
) -> Telemetry:
    """Set up OpenTelemetry with OTLP exporters, where the application has not done so itself.

    A provider that is already set is left alone: then this does nothing. The environment variables
    of the OpenTelemetry SDK (`OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`,
    `OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_EXPORTER=none`, `OTEL_METRICS_EXPORTER=none`,
    `OTEL_SDK_DISABLED`) hold for all that is not given here.

    Args:
        service_name: `service.name`; on Cloud Run, the service's own name if nobody gives one.
        endpoint: The collector's base URL, such as `http://localhost:4318`, or
            `http://localhost:4317` for gRPC.
        protocol: `http` or `grpc`; the environment's, else `http`, which needs 22 MiB less memory.
        resource_attributes: More attributes of the resource.

    Returns:
        What ends it; use it as a context manager around the application.

    Raises:
        ValueError: When the protocol is unknown.
    """
    asked = protocol or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http"
    if asked not in _PROTOCOLS:
        raise ValueError(f"unknown OTLP protocol {asked!r}; it must be 'http' or 'grpc'")
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        logger.info("OTEL_SDK_DISABLED is set: no telemetry is set up")
        return Telemetry()
    if not _nothing_set():
        logger.info("the application has set an OpenTelemetry provider: it is used as it is")
        return Telemetry()
    resource = _resource(service_name, resource_attributes or {})
    lines = limit_exporter_lines()
    return Telemetry(_install(resource, _PROTOCOLS[asked], endpoint), lines)


def _nothing_set() -> bool:
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    return isinstance(tracers, trace.ProxyTracerProvider) and is_unset_meter_provider(meters)


def _install(
    resource: "Resource", protocol: str, endpoint: str | None
) -> list[Callable[[], object]]:
    """Make the providers, set them, and return what ends each."""
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415  only when it is wanted
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415  the same
        PeriodicExportingMetricReader,
    )
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  the same

    exporters = _grpc_exporters if protocol == "grpc" else _http_exporters
    span_exporter, metric_exporter = exporters(endpoint)
    # shutdown_on_exit would wait for the collector without a limit.
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if _wanted("OTEL_TRACES_EXPORTER"):
        tracers.add_span_processor(_batching(span_exporter))
    readers = []
    if _wanted("OTEL_METRICS_EXPORTER"):
        readers.append(PeriodicExportingMetricReader(metric_exporter))
    meters = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    return [tracers.shutdown, meters.shutdown]


def _batching(exporter: "SpanExporter") -> "SpanProcessor":
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  lazy

    given = os.environ.get("OTEL_BSP_SCHEDULE_DELAY")
    return BatchSpanProcessor(
        exporter, schedule_delay_millis=None if given else _BATCH_DELAY_MILLIS
    )


def _http_exporters(endpoint: str | None) -> "tuple[SpanExporter, MetricExporter]":
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415  lazy
        OTLPMetricExporter,
    )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  lazy
        OTLPSpanExporter,
    )

    base = endpoint.rstrip("/") if endpoint else None
    return (
        OTLPSpanExporter(base and f"{base}/v1/traces", timeout=_timeout("TRACES")),
        OTLPMetricExporter(base and f"{base}/v1/metrics", timeout=_timeout("METRICS")),
    )


def _grpc_exporters(endpoint: str | None) -> "tuple[SpanExporter, MetricExporter]":
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415  lazy
        OTLPMetricExporter,
    )
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415  lazy
        OTLPSpanExporter,
    )

    return (
        OTLPSpanExporter(endpoint, timeout=_timeout("TRACES")),
        OTLPMetricExporter(endpoint, timeout=_timeout("METRICS")),
    )


def _wanted(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() != "none"


def _timeout(signal: str) -> float | None:
    """Ours, unless the environment has one: `None` lets the exporter read that."""
    names = ("OTEL_EXPORTER_OTLP_TIMEOUT", f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT")
    return None if any(map(os.environ.get, names)) else _EXPORT_TIMEOUT_SECONDS


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
    return resource.merge(Resource({**found, **given, **name}))


class _Ending:
    """Ends one provider in a thread that does not hold the exit up.

    The SDK's own shutdown waits for its exporter as long as that likes; a daemon thread can be left
    behind. It stands by from the beginning, since Python 3.12 starts none during the exit.
    """

    def __init__(self, end: Callable[[], object]) -> None:
        self._end = end
        self._asked = Event()
        self._thread = self._start(self._stand_by)

    def begin(self) -> Thread:
        """Begin to end it; return the thread that does."""
        self._asked.set()
        if not self._thread.is_alive():  # a fork does not take threads along
            with contextlib.suppress(RuntimeError):
                self._thread = self._start(self._run)
        return self._thread

    def _start(self, target: Callable[[], None]) -> Thread:
        thread = Thread(target=target, name="telemetry-shutdown", daemon=True)
        thread.start()
        return thread

    def _stand_by(self) -> None:
        self._asked.wait()
        self._run()

    def _run(self) -> None:
        try:
            self._end()
        except Exception as error:  # noqa: BLE001  a provider that cannot end must not break the exit
            logger.debug("a provider could not be ended: %r", error)
