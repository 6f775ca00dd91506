"""What telemetry costs a service, whatever the collector does.

`python -m tests.benchmarks.bench_telemetry` prints

- for each collector (none, taking, refusing, silent, slow): the most processor time that the
  observer took from the event loop at once while a service starts and flaps; the longest stall of
  the loop for whatever reason, to be compared with that without telemetry; the time from the
  service's last line to its end; and its lines of log. The limits are 5 ms, 2 s more than without
  telemetry, and 3 lines a minute;
- microseconds for each change of stage without a provider, sampled out, and recorded; the limit is
  2 for the first.

Of several rounds the best counts: everything else that the machine does only adds.
"""

# ruff: noqa: T201  a benchmark prints

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from orchestrator import Policy, StartupContext, Target
from orchestrator.otel import OpenTelemetryObserver
from states import (
    BootFinished,
    Fact,
    Failure,
    FailureKind,
    ProbeFailed,
    ProbeSucceeded,
    StageChanged,
    StartupMachine,
    TimerFired,
)

ROOT = Path(__file__).parents[2]
ROUNDS = 3

SERVICE = """
import asyncio, json, logging, sys, time
logging.basicConfig(level=logging.WARNING)
from orchestrator import Orchestrator, Policy
from orchestrator.otel import OpenTelemetryObserver, setup_telemetry
from orchestrator.testing import REFUSED, ScriptedProbe
from states import Stage
logging.getLogger("orchestrator").setLevel(logging.ERROR)  # its own lines are not the exporters'

endpoint, protocol = sys.argv[1:]
observers, taken = [], [0.0]

class Timed(OpenTelemetryObserver):
    def observed(self, fact, changed):
        began = time.thread_time()
        super().observed(fact, changed)
        taken[0] = max(taken[0], time.thread_time() - began)

if endpoint:
    setup_telemetry("bench", endpoint=endpoint, protocol=protocol)
    observers.append(Timed())

async def beat(longest):
    while True:
        due = time.perf_counter() + 0.001
        await asyncio.sleep(0.001)
        longest[0] = max(longest[0], time.perf_counter() - due)

async def serve():
    longest = [0.0]
    beating = asyncio.create_task(beat(longest))
    probe = ScriptedProbe([REFUSED, REFUSED, None])
    policy = Policy(flap_grace_seconds=0.0)
    async with Orchestrator(probe, policy=policy, observers=observers) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=10)
        for _ in range(3):
            probe.then(REFUSED)
            await startup.wait_for(Stage.DEGRADED, timeout_seconds=10)
            probe.then(None)
            await startup.wait_for(Stage.READY, timeout_seconds=10)
        await asyncio.sleep(1.2)  # batches are sent meanwhile
        beating.cancel()
        # Before it is left: what leaving waits for belongs to the exit.
        print(json.dumps(taken + longest), flush=True)

asyncio.run(serve())
"""


class _Taking(BaseHTTPRequestHandler):
    delay_seconds = 0.0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.delay_seconds)
        with contextlib.suppress(OSError):  # it may have lost patience
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
        """Say nothing."""


class _Slow(_Taking):
    delay_seconds = 0.7


@contextlib.contextmanager
def collector(kind: str) -> Iterator[str]:
    """A collector of that kind; gives its URL."""
    if kind == "none":
        yield ""
    elif kind in ("taking", "slow"):
        with ThreadingHTTPServer(("127.0.0.1", 0), _Slow if kind == "slow" else _Taking) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            if kind == "refusing":
                listener.close()
            yield f"http://127.0.0.1:{port}"


Measured = tuple[float, float, float, int]
"""Milliseconds of the observer and of the longest stall, seconds to the end, lines of log."""


def run_service(url: str, protocol: str) -> Measured:
    """Run it once."""
    environment = {k: v for k, v in os.environ.items() if "OTEL" not in k}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE, url, protocol],
        env=environment | {"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "NONE"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    said_at = time.perf_counter()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    took_seconds = time.perf_counter() - said_at
    taken, longest = json.loads(line)
    return taken * 1e3, longest * 1e3, took_seconds, len(errors.splitlines())


def best(url: str, protocol: str) -> Measured:
    """The least of everything, and the most lines."""
    rounds = [run_service(url, protocol) for _ in range(ROUNDS)]
    taken, longest, end, _ = (min(figures) for figures in zip(*rounds, strict=True))
    return taken, longest, end, max(lines for *_, lines in rounds)


def print_collectors() -> None:
    """The second table."""
    with collector("none") as url:
        _, longest, base_end, _ = best(url, "http")
    print(f"\n{'collector':20}{'observer':>12}{'stall':>12}{'exit':>9}{'more':>9}{'lines':>7}")
    print(f"{'no telemetry':20}{'-':>12}{longest:9.2f} ms{base_end:7.2f} s")
    for kind in ("taking", "refusing", "silent", "slow"):
        for protocol in ("http", "grpc"):
            if protocol == "grpc" and kind in ("taking", "slow"):
                continue  # these speak HTTP only
            with collector(kind) as url:
                taken, longest, end, lines = best(url, protocol)
            print(
                f"{kind + ' over ' + protocol:20}{taken:9.2f} ms{longest:9.2f} ms"
                f"{end:7.2f} s{end - base_end:7.2f} s{lines:7}"
            )


def history(flaps: int) -> tuple[StartupContext, list[tuple[Fact, StageChanged | None]]]:
    """The facts of a start with twenty attempts, and of some falls and recoveries."""
    policy = Policy(flap_grace_seconds=0.0, failures_to_degrade=1)
    machine, told = StartupMachine(policy), list[tuple[Fact, StageChanged | None]]()
    failure = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "nothing listens there")

    def take(fact: Fact) -> None:
        told.append((fact, machine.receive(fact)))
        while machine.wake_at is not None and machine.wake_at <= fact.at:
            fired = TimerFired(fact.at)
            told.append((fired, machine.receive(fired)))

    take(BootFinished(1.0))
    for number in range(20):
        take(ProbeFailed(1.0 + number / 10, 0.001, failure))
    take(ProbeSucceeded(4.0, 0.001))
    for number in range(flaps):
        take(ProbeFailed(10.0 + number * 10, 0.001, failure))
        take(ProbeSucceeded(12.0 + number * 10, 0.001))
    return StartupContext(policy, Target(), {}, 0.0, 1.0, 10**18), told


def microseconds(observer: OpenTelemetryObserver, flaps: int) -> float:
    """For each change of stage, with all the facts between them."""
    context, told = history(flaps)
    changes = sum(changed is not None for _, changed in told)
    least = float("inf")
    for _ in range(200):
        observer.started(context)
        began = time.perf_counter()
        for fact, changed in told:
            observer.observed(fact, changed)
        least = min(least, time.perf_counter() - began)
    return least * 1e6 / changes


def print_transitions() -> None:
    """The first table."""
    off = TracerProvider(ALWAYS_OFF, shutdown_on_exit=False)
    on = TracerProvider(shutdown_on_exit=False)
    meters = MeterProvider(shutdown_on_exit=False)
    observers = {
        "no provider": OpenTelemetryObserver(),
        "sampled out": OpenTelemetryObserver(off, NoOpMeterProvider()),
        "recorded": OpenTelemetryObserver(on, meters),
    }
    print(f"\n{'per change of stage':22}{'10 flaps':>12}{'100 flaps':>12}{'ratio':>8}")
    base = None
    for name, observer in observers.items():
        few, many = microseconds(observer, 10), microseconds(observer, 100)
        base = base or many
        print(f"{name:22}{few:9.2f} us{many:9.2f} us{many / base:8.1f}")


if __name__ == "__main__":
    print_transitions()
    print_collectors()
