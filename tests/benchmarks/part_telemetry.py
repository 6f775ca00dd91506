"""What telemetry costs a service, whatever the collector does: it takes, refuses, hangs or is slow.

A service starts and flaps three times. Three rounds only: each runs for seconds.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.benchmarks.measure import Candidate, interleaved
from tests.benchmarks.rows import Figure, Row, Verdict, below

PART = "telemetry"
ROOT = Path(__file__).parents[2]
ROUNDS, MORE_SECONDS = 3, 1.2
COMMAND = (sys.executable, "-m", "tests.benchmarks.telemetry_service")
NONE = ("none", "http")
COLLECTORS = (
    ("taking", "http"),
    ("refusing", "http"),
    ("refusing", "grpc"),
    ("silent", "http"),
    ("silent", "grpc"),
    ("slow", "http"),
)
"""What the collector does, and over which protocol; those that answer speak HTTP only."""

OBSERVER_MS = STALL_MS = 5.0
EXIT_SECONDS, LINES = 2.0, 3


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


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of the service.

    Attributes:
        observer_ms: The most processor time that the observer took from the loop at once.
        stall_ms: The longest stall of the loop, for whatever reason.
        exit_seconds: From the service's last line to its end.
        lines: Its lines of log.
    """

    observer_ms: float
    stall_ms: float
    exit_seconds: float
    lines: float


def run_service(kind: str, protocol: str, more_seconds: float) -> Measured:
    """Run it once."""
    environment = {k: v for k, v in os.environ.items() if "OTEL" not in k}
    with (
        collector(kind) as url,
        subprocess.Popen(
            [*COMMAND, url, protocol, str(more_seconds)],
            cwd=ROOT,
            env=environment | {"GRPC_VERBOSITY": "NONE"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        said_at = time.perf_counter()
        try:
            _, errors = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        took_seconds = time.perf_counter() - said_at
    assert process.returncode == 0, errors
    taken, longest = json.loads(line)
    return Measured(taken * 1e3, longest * 1e3, took_seconds, len(errors.splitlines()))


def rows(name: str, taken: Sequence[Measured], without: Sequence[Measured]) -> Iterator[Row]:
    """The rows of one collector beside those without telemetry."""

    def figure(of: Sequence[Measured], attribute: str, named: str) -> Figure:
        return Figure(named, tuple(getattr(one, attribute) for one in of))

    observer = figure(taken, "observer_ms", "ours")
    yield Row(
        part=PART,
        what=f"{name}: most time taken from the event loop at once",
        unit="ms",
        ours=observer,
        verdicts=(below(observer, OBSERVER_MS, "ms"),),
    )
    stall = figure(taken, "stall_ms", "ours")
    yield Row(
        part=PART,
        what=f"{name}: longest stall of the event loop",
        unit="ms",
        ours=stall,
        floor=figure(without, "stall_ms", "no telemetry"),
        verdicts=(below(stall, STALL_MS, "ms"),),
    )
    ours, floor = (
        figure(taken, "exit_seconds", "ours"),
        figure(without, "exit_seconds", "no telemetry"),
    )
    more = ours.median - floor.median
    yield Row(
        part=PART,
        what=f"{name}: from the last line to the end of the process",
        unit="s",
        ours=ours,
        floor=floor,
        verdicts=(
            Verdict(
                f"{more:.2g} s more than no telemetry (under {EXIT_SECONDS:g})",
                more < EXIT_SECONDS,
            ),
        ),
    )
    lines = figure(taken, "lines", "ours")
    yield Row(
        part=PART,
        what=f"{name}: lines of log",
        unit="",
        ours=lines,
        verdicts=(
            Verdict(
                f"{max(lines.values):.0f} (at most {LINES} a minute)", max(lines.values) <= LINES
            ),
        ),
    )


def measure(
    collectors: Sequence[tuple[str, str]] = COLLECTORS,
    rounds: int = ROUNDS,
    more_seconds: float = MORE_SECONDS,
) -> Iterator[Row]:
    """All of it."""
    found: dict[tuple[str, str], list[Measured]] = {}

    def candidate(key: tuple[str, str]) -> Candidate:
        def run() -> float:
            measured = run_service(*key, more_seconds)
            found.setdefault(key, []).append(measured)
            return measured.exit_seconds

        return run

    interleaved(
        {" over ".join(key): candidate(key) for key in (NONE, *collectors)},
        rounds=rounds,
        warm_up=0,
    )
    for key in collectors:
        yield from rows(" over ".join(key), found[key], found[NONE])
