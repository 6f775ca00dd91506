"""Nothing of a start is lost at the end of a process: killed, failed, or forked."""

import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from tests.otel.collector_support import until
from tests.otel.otel_process import ROOT, START, Receiver, at, receiving, run
from tests.redis_server import free_port

SERVICE = """
import sys
from contextlib import asynccontextmanager

import uvicorn

from orchestrator import Orchestrator
from orchestrator.asgi import lifespan
from orchestrator.otel import OpenTelemetryObserver, Telemetry, _flush, _observer, setup_telemetry
from orchestrator.redis import RedisProbe

# On a busy machine it takes longer to send than an exit would wait.
Telemetry.shutdown.__defaults__ = (30.0,)
_flush._LEAVING_SECONDS = _observer._LEAVING_SECONDS = 30.0
telemetry = setup_telemetry("chat")
startup = Orchestrator(RedisProbe(sys.argv[1]), observers=[OpenTelemetryObserver()])
enter = lifespan(startup)

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    async with enter(app):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})

uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="info")
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def service(receiver: Receiver) -> Iterator[subprocess.Popen[str]]:
    """A service under uvicorn whose Redis is not there, once it has said that it runs."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-c", textwrap.dedent(SERVICE)),
            *(f"redis://127.0.0.1:{free_port()}", str(free_port())),
        ],
        env={"PYTHONPATH": str(ROOT), "PATH": "", **at(receiver)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    pytest.fail(f"the service ended without saying {text!r}")


def test_a_start_that_is_killed_by_sigterm_is_exported(
    service: subprocess.Popen[str], receiver: Receiver
) -> None:
    """Uvicorn ends itself by the signal: no exit handler runs, no context manager is left."""
    read_until(service, "Uvicorn running")
    assert receiver.spans == []
    service.send_signal(signal.SIGTERM)
    assert service.wait(60) == -signal.SIGTERM
    (root,) = (span for span in receiver.spans if span.name == "startup")
    told = {a.key: a.value for a in root.attributes}
    assert told["orchestrator.outcome"].string_value == "stopped"
    assert told["orchestrator.attempts"].int_value >= 1
    names = {
        metric.name
        for request in receiver.metrics
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert "orchestrator.startup.duration" in names


def test_a_failed_start_is_exported_long_before_the_end(receiver: Receiver) -> None:
    """A process that is killed without warning right after its start has failed."""
    code = f"""
import os, sys
import anyio
from orchestrator import Orchestrator
from orchestrator.otel import OpenTelemetryObserver, setup_telemetry
from orchestrator.testing import WRONG_PASSWORD, ScriptedProbe
from states import Stage

async def serve() -> None:
    async with Orchestrator(
        ScriptedProbe([WRONG_PASSWORD]), observers=[OpenTelemetryObserver()]
    ) as startup:
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=20)
        print("failed", flush=True)
        await anyio.sleep_forever()

telemetry = setup_telemetry("chat", endpoint={receiver.url!r})
anyio.run(serve)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "OTEL_BSP_SCHEDULE_DELAY": "60000"},
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"failed\n"
            until(lambda: receiver.spans or None, "the failed start arrives", 5)
        finally:
            process.kill()
    (root,) = (span for span in receiver.spans if span.name == "startup")
    assert root.status.message == "the password is wrong"


FORKING = (
    START
    + """
import os, sys, warnings

# From Python 3.12 on a fork beside threads is warned of; gunicorn does it all the same.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
telemetry = setup_telemetry("chat")  # before the fork, as with gunicorn's --preload
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        anyio.run(serve)
        print(observer.trace_id, flush=True)
        sys.exit()  # as gunicorn's workers do; exit handlers run
    children.append(pid)
for pid in children:
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
anyio.run(serve)
print(observer.trace_id)
"""
)


def test_a_fork_after_set_up_loses_nothing_and_mixes_nothing_up(receiver: Receiver) -> None:
    done = run(FORKING, **at(receiver))
    traces = done.stdout.split()
    assert len(set(traces)) == 3
    sent = receiver.instances()
    assert set(sent) == set(traces)
    # Each process under a name of its own: else their metrics would overwrite each other.
    assert len({next(iter(sent[trace])) for trace in traces}) == 3


FORKED_LATE = (
    START
    + """
import os, sys, warnings

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
telemetry = setup_telemetry("chat")

async def fork_while_running() -> None:
    async with Orchestrator(ScriptedProbe([REFUSED]), observers=[observer]) as startup:
        await startup.wait_for(Stage.PROBING_REDIS, timeout_seconds=20)
        assert observer.wait_until_written(5)
        if os.fork() == 0:
            telemetry.shutdown()  # sends what there is to send
            os._exit(0)
        assert os.wait()[1] == 0

anyio.run(fork_while_running)
"""
)


def test_a_process_of_a_pool_does_not_tell_the_metrics_of_its_parent(receiver: Receiver) -> None:
    run(FORKED_LATE, **at(receiver))
    assert len(receiver.metric_instances()) == 1


FORKED_EXIT = (
    START
    + """
import os, time

telemetry = setup_telemetry("chat")
if (pid := os.fork()) == 0:
    anyio.run(serve)
    print("served", flush=True)
    raise SystemExit
os.waitpid(pid, 0)
print("ended", flush=True)
os._exit(0)
"""
)


def test_a_forked_process_is_held_up_no_longer_than_any_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", FORKED_EXIT],
            env={"PYTHONPATH": str(ROOT), "OTEL_EXPORTER_OTLP_ENDPOINT": url},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"served\n"
                began = time.monotonic()  # it has waited for the observer's part before
                assert process.stdout.readline() == b"ended\n"
                took_seconds = time.monotonic() - began
            finally:
                process.kill()
    assert took_seconds < 5  # the exporter would wait 10 s for an answer
