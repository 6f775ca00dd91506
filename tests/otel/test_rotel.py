"""OTLP as a receiver that others wrote takes it: rotel, over HTTP and over gRPC, all signals."""

import re
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.otel.collector_support import running
from tests.otel.otel_process import START, run
from tests.redis_server import free_port

METRICS = {
    "orchestrator.startup.duration",
    "orchestrator.stage.duration",
    "orchestrator.probe.duration",
    "orchestrator.probe.loop_lag",
    "orchestrator.stage.transitions",
    "orchestrator.stage",
    "orchestrator.condition",
    "orchestrator.check.duration",
    "orchestrator.task.restarts",
}


@pytest.fixture
def rotel(tmp_path: Path) -> Iterator[tuple[dict[str, str], Path]]:
    """The URL for each protocol, and the log in which it writes what it got."""
    found = find_spec("rotel")
    if found is None or found.origin is None:
        pytest.skip("rotel, an OTLP receiver, is not installed")
    # Run as a program: the package is only how it comes.
    program = str(Path(found.origin).with_name("rotel-agent"))
    if subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 127:
        pytest.skip("rotel's program lacks a library here: it is linked to libpython")
    ports = {"grpc": free_port(), "http": free_port()}
    log = tmp_path / "log"
    signals = ["--debug-log", "traces", "--debug-log", "metrics", "--debug-log", "logs"]
    with running(
        [
            *(program, "start", "--exporter", "blackhole", *signals),
            *("--debug-log-verbosity", "detailed", "--pid-file", str(tmp_path / "pid")),
            *("--otlp-grpc-endpoint", f"127.0.0.1:{ports['grpc']}"),
            *("--otlp-http-endpoint", f"127.0.0.1:{ports['http']}"),
        ],
        log,
        [*ports.values()],
    ):
        yield {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}, log


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_spans_metrics_and_events_arrive(rotel: tuple[dict[str, str], Path], protocol: str) -> None:
    urls, log = rotel
    done = run(
        START
        + f"""
from orchestrator import Check, Task
from orchestrator.checks import call

async def listen(*, task_status):
    task_status.started()
    await anyio.sleep_forever()

async def serve():
    conditions = [Check("disk", call(lambda: True, name="free"), after=["redis"])]
    conditions += [Task("listener", listen, after=["disk"])]
    probe = ScriptedProbe([REFUSED, None])
    async with Orchestrator(probe, conditions=conditions, observers=[observer]) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=20)

observer = OpenTelemetryObserver(events="both")
with setup_telemetry("chat", endpoint={urls[protocol]!r}, protocol={protocol!r}, logs=True):
    anyio.run(serve)
print(observer.trace_id)
        """,
        GRPC_VERBOSITY="ERROR",
    )
    trace = done.stdout.strip()
    text = _complete(log)
    spans = re.findall(r"Trace ID +: (\w+)\n +Parent ID +: (\w*)\n.*\n +Name +: (.*)", text)
    assert {found for found, _, _ in spans} == {trace}
    assert [name for _, parent, name in spans if not parent.strip("0")] == ["startup"]
    assert {name for *_, name in spans} == {
        *("startup", "startup booting", "startup probing_redis", "startup grace", "PING"),
        *("condition disk", "call free", "condition listener"),
    }
    assert set(re.findall(r"-> Name: (orchestrator\.[\w.]+)\n +-> Desc", text)) == METRICS
    assert text.count("-> Name: orchestrator.stage.transition\n") == 3  # on the span
    assert text.count("-> Name: orchestrator.task.started\n") == 1
    events = re.findall(r"EventName: (.*)\n(?:.*\n)+?    Trace ID +: (\w+)", text)
    names = [*["orchestrator.stage.transition"] * 3, "orchestrator.task.started"]
    assert events == [(name, trace) for name in names]


def _complete(log: Path) -> str:
    """The log, once all three signals are in it: they are sent side by side."""
    deadline = time.monotonic() + 10
    while True:
        text = log.read_text(encoding="utf-8", errors="replace")
        if all(sign in text for sign in ("ResourceSpans", "ResourceMetrics", "EventName")):
            return text
        assert time.monotonic() < deadline, text
        time.sleep(0.02)
