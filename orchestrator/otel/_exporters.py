"""The OTLP exporters, loaded only where they are wanted, and renewed in forked processes."""

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the SDK is loaded by those who ask for it only
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

_EXPORT_TIMEOUT_SECONDS = 2.0
"""One export with all its retries, unless the environment says otherwise. The SDK's own 10 s would
outlast every shutdown, and a refusing collector be asked for as long."""

PROTOCOLS = {"http": "http", "http/protobuf": "http", "grpc": "grpc"}
"""What may be asked for, and which it is."""


class Exporters(NamedTuple):
    """One exporter for each signal."""

    spans: "SpanExporter"
    metrics: "MetricExporter"
    logs: "LogRecordExporter | None"


def make_exporters(protocol: str, endpoint: str | None, *, logs: bool) -> Exporters:
    """The exporters of a protocol of `PROTOCOLS`, for the collector at `endpoint`."""
    if PROTOCOLS[protocol] == "grpc":
        return _grpc_exporters(endpoint, logs=logs)
    exporters = _http_exporters(endpoint, logs=logs)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: _reconnect(exporters, endpoint))
    return exporters


def _http_exporters(endpoint: str | None, *, logs: bool) -> Exporters:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415  lazy
        OTLPMetricExporter,
    )
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  lazy
        OTLPSpanExporter,
    )

    return Exporters(
        OTLPSpanExporter(_path(endpoint, "traces"), timeout=_timeout("TRACES")),
        OTLPMetricExporter(_path(endpoint, "metrics"), timeout=_timeout("METRICS")),
        _http_log_exporter(endpoint) if logs else None,
    )


def _http_log_exporter(endpoint: str | None) -> "LogRecordExporter":
    from opentelemetry.exporter.otlp.proto.http._log_exporter import (  # noqa: PLC0415  lazy
        OTLPLogExporter,
    )

    return OTLPLogExporter(_path(endpoint, "logs"), timeout=_timeout("LOGS"))


def _reconnect(exporters: Exporters, endpoint: str | None) -> None:
    """In a forked process: a connection that both used would mix up what each sends.

    The objects are initialised anew in place, since the SDK has no way to replace an exporter.
    """
    fresh = _http_exporters(endpoint, logs=exporters.logs is not None)
    for exporter, replacement in zip(exporters, fresh, strict=True):
        if exporter is not None and replacement is not None:
            exporter.__dict__.update(replacement.__dict__)


def _grpc_exporters(endpoint: str | None, *, logs: bool) -> Exporters:
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415  lazy
        OTLPMetricExporter,
    )
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415  lazy
        OTLPSpanExporter,
    )

    return Exporters(
        OTLPSpanExporter(endpoint, timeout=_timeout("TRACES")),
        OTLPMetricExporter(endpoint, timeout=_timeout("METRICS")),
        _grpc_log_exporter(endpoint) if logs else None,
    )


def _grpc_log_exporter(endpoint: str | None) -> "LogRecordExporter":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import (  # noqa: PLC0415  lazy
        OTLPLogExporter,
    )

    return OTLPLogExporter(endpoint, timeout=_timeout("LOGS"))


def _path(endpoint: str | None, signal: str) -> str | None:
    return f"{endpoint.rstrip('/')}/v1/{signal}" if endpoint else None


def _timeout(signal: str) -> float | None:
    """Ours, unless the environment has one: `None` lets the exporter read that."""
    names = ("OTEL_EXPORTER_OTLP_TIMEOUT", f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT")
    return None if any(map(os.environ.get, names)) else _EXPORT_TIMEOUT_SECONDS
