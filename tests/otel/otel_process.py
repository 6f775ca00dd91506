"""Programs that set telemetry up, run as processes of their own, and an OTLP receiver for them.

Providers can be set once in a process, so everything that sets one needs a process.
"""

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

ROOT = Path(__file__).parents[2]

START = """
import anyio
from orchestrator import Orchestrator
from orchestrator.otel import OpenTelemetryObserver, setup_telemetry
from orchestrator.testing import REFUSED, ScriptedProbe
from states import Stage

observer = OpenTelemetryObserver()

async def serve() -> None:
    probe = ScriptedProbe([REFUSED, None])
    async with Orchestrator(probe, observers=[observer]) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=20)
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has nothing of this process's OpenTelemetry environment."""
    inherited = {name: value for name, value in os.environ.items() if "OTEL" not in name}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env=inherited | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


class Receiver(ThreadingHTTPServer):
    """An OTLP receiver over HTTP that keeps what it got."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def spans(self) -> list[Span]:
        """All spans that came so far."""
        return [
            span
            for request in tuple(self.traces)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def instances(self) -> dict[str, set[str]]:
        """The `service.instance.id` that sent each trace, by the trace's id."""
        found: dict[str, set[str]] = {}
        for request in self.traces:
            for resource in request.resource_spans:
                instance = _instance(resource.resource)
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        found.setdefault(span.trace_id.hex(), set()).add(instance)
        return found

    def metric_instances(self) -> set[str]:
        """The `service.instance.id` of all that sent the stage of an orchestrator."""
        return {
            _instance(resource.resource)
            for request in self.metrics
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            if any(metric.name == "orchestrator.stage" for metric in scope.metrics)
        }


def _instance(resource: Resource) -> str:
    (found,) = (a for a in resource.attributes if a.key == "service.instance.id")
    return str(found.value.string_value)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            self.server.traces.append(ExportTraceServiceRequest.FromString(body))
        elif self.path == "/v1/metrics":
            self.server.metrics.append(ExportMetricsServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Say nothing."""


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that runs for the block."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def at(receiver: Receiver) -> dict[str, str]:
    """The environment of a program that sends there."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
