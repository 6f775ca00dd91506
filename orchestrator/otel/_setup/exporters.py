"""The OTLP exporters, loaded only where they are wanted, and renewed in forked processes."""

import os
from importlib import import_module
from typing import Protocol, cast

from orchestrator.otel._setup.environment import PROTOCOLS, Signal, timeout_of

_EXPORT_TIMEOUT_SECONDS = 2.0
"""One export with all its retries, unless the environment says otherwise. The SDK's own 10 s would
outlast every shutdown, and a refusing collector be asked for as long."""

_NAMES = {
    Signal.TRACES: ("trace_exporter", "OTLPSpanExporter"),
    Signal.METRICS: ("metric_exporter", "OTLPMetricExporter"),
    Signal.LOGS: ("_log_exporter", "OTLPLogExporter"),
}
"""The module and the class for each signal, the same in both packages."""


class _ExporterMaker(Protocol):
    def __call__(self, endpoint: str | None, *, timeout: float) -> object: ...


def make_exporter(signal: Signal, protocol: str, endpoint: str | None) -> object:
    """The exporter of a signal, for the collector at `endpoint`.

    What is not given here, the exporter takes from the environment.

    Args:
        signal: What it exports.
        protocol: A key of `PROTOCOLS`.
        endpoint: The collector's base URL.

    Raises:
        ImportError: When the package of the protocol is not installed.
        Exception: Whatever the exporter thinks of the environment.
    """
    over_http = PROTOCOLS[protocol] == "http"
    module, name = _NAMES[signal]
    package = f"opentelemetry.exporter.otlp.proto.{PROTOCOLS[protocol]}"
    maker = cast("_ExporterMaker", getattr(import_module(f"{package}.{module}"), name))
    if endpoint and over_http:
        endpoint = f"{endpoint.rstrip('/')}/v1/{signal}"
    timeout_seconds = timeout_of(signal, _EXPORT_TIMEOUT_SECONDS)

    def make() -> object:
        return maker(endpoint or None, timeout=timeout_seconds)

    exporter = make()
    if over_http and hasattr(os, "register_at_fork"):
        # In a forked process a connection that both used would mix up what each sends. The object
        # is initialised anew in place, since the SDK has no way to replace an exporter.
        os.register_at_fork(after_in_child=lambda: exporter.__dict__.update(make().__dict__))
    return exporter
