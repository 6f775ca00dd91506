"""What telemetry costs a service, whatever the collector does: it takes, refuses, hangs or is slow.

A service starts and flaps three times. Three rounds only, since each runs for seconds; but nine of
the stalls over gRPC, whose exporter has threads that keep the interpreter now and then.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.benchmarks.rows import Figure, Row, Verdict, at_most, below
from tests.benchmarks.telemetry_service import BY_HAND

PART = "telemetry"
ROOT = Path(__file__).parents[2]
ROUNDS, STALL_ROUNDS, MORE_SECONDS = 3, 9, 1.2
COMMAND = (sys.executable, "-m", "tests.benchmarks.telemetry_service")

Key = tuple[str, str]
"""What the collector does, and over which protocol; those that answer speak HTTP only."""

NONE = ("none", "http")
COLLECTORS: tuple[Key, ...] = (
    ("taking", "http"),
    ("refusing", "http"),
    ("refusing", "grpc"),
    ("silent", "http"),
    ("silent", "grpc"),
    ("slow", "http"),
)
HAND_WRITTEN = ("refusing", "grpc")
"""The one that has the SDK by hand beside it."""

OBSERVER_MS = STALL_MS = 5.0
MOST_OF_BY_HAND = 1.1
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
class Stalled:
    """How one run of the service went while it ran.

    Attributes:
        observer_ms: The most processor time that the observer took from the loop at once.
        stall_ms: The longest stall of the loop, for whatever reason.
    """

    observer_ms: float
    stall_ms: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How one run of the service ended.

    Attributes:
        exit_seconds: From the service's last line to its end.
        lines: Its lines of log.
    """

    exit_seconds: float
    lines: float


@contextlib.contextmanager
def service(kind: str, protocol: str, more_seconds: float) -> Iterator["subprocess.Popen[str]"]:
    """The service beside a collector of that kind; it is ended with this."""
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
        try:
            yield process
        finally:
            process.kill()


def stalled(kind: str, protocol: str, more_seconds: float) -> Stalled:
    """Run it until it has said how it went."""
    with service(kind, protocol, more_seconds) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the service ended: {process.communicate()[1]}")
    taken, longest = json.loads(line)
    return Stalled(taken * 1e3, longest * 1e3)


def ended(kind: str, protocol: str, more_seconds: float) -> Ended:
    """Run it to its end."""
    with service(kind, protocol, more_seconds) as process:
        assert process.stdout is not None
        process.stdout.readline()
        said_at = time.perf_counter()
        _, errors = process.communicate(timeout=60)
        took_seconds = time.perf_counter() - said_at
    assert process.returncode == 0, errors
    return Ended(took_seconds, len(errors.splitlines()))


def stall_rows(
    name: str,
    taken: Sequence[Stalled],
    without: Sequence[Stalled],
    by_hand: Sequence[Stalled] = (),
) -> Iterator[Row]:
    """What one collector costs the event loop."""
    observer = Figure("ours", tuple(one.observer_ms for one in taken))
    yield Row(
        part=PART,
        what=f"{name}: most time taken from the event loop at once",
        unit="ms",
        ours=observer,
        verdicts=(below(observer, OBSERVER_MS, "ms"),),
    )
    stall, floor = (
        Figure(named, tuple(one.stall_ms for one in of))
        for named, of in (("ours", taken), ("no telemetry", without))
    )
    peers: tuple[Figure, ...] = ()
    verdict = below(stall, STALL_MS, "ms")
    if by_hand:
        # How long this exporter's threads keep the interpreter is theirs, and varies by machine.
        peers = (Figure("the SDK by hand", tuple(one.stall_ms for one in by_hand)),)
        verdict = at_most(stall, MOST_OF_BY_HAND, *peers)
    yield Row(
        part=PART,
        what=f"{name}: longest stall of the event loop",
        unit="ms",
        ours=stall,
        peers=peers,
        floor=floor,
        verdicts=(verdict,),
    )


def end_rows(name: str, taken: Sequence[Ended], without: Sequence[Ended]) -> Iterator[Row]:
    """How long one collector keeps a service that ends, and what is said of it."""
    ours, floor = (
        Figure(named, tuple(one.exit_seconds for one in of))
        for named, of in (("ours", taken), ("no telemetry", without))
    )
    more = ours.median - floor.median
    text = f"{more:.2g} s more than no telemetry (under {EXIT_SECONDS:g})"
    yield Row(
        part=PART,
        what=f"{name}: from the last line to the end of the process",
        unit="s",
        ours=ours,
        floor=floor,
        verdicts=(Verdict(text, more < EXIT_SECONDS),),
    )
    lines = Figure("ours", tuple(one.lines for one in taken))
    text = f"{max(lines.values):.0f} (at most {LINES} a minute)"
    yield Row(
        part=PART,
        what=f"{name}: lines of log",
        unit="",
        ours=lines,
        verdicts=(Verdict(text, max(lines.values) <= LINES),),
    )


def measure(
    collectors: Sequence[Key] = COLLECTORS,
    rounds: int = ROUNDS,
    stall_rounds: int = STALL_ROUNDS,
    more_seconds: float = MORE_SECONDS,
) -> Iterator[Row]:
    """All of it.

    Args:
        collectors: What they do, and the protocols.
        rounds: How often each is measured.
        stall_rounds: How often the stalls over gRPC are, where single ones come and go.
        more_seconds: How long the service goes on, while batches are sent.
    """
    stalls = _stalls((NONE, *collectors), rounds, stall_rounds, more_seconds)
    ends: dict[Key, list[Ended]] = {key: [] for key in (NONE, *collectors)}
    for _ in range(rounds):
        # They wait for collectors, and not for the processor, so all of them may end at once.
        with ThreadPoolExecutor(len(ends)) as pool:
            found = {key: pool.submit(ended, *key, more_seconds) for key in ends}
        for key, future in found.items():
            ends[key].append(future.result())
    for key in collectors:
        name = " over ".join(key)
        by_hand = stalls.get((key[0], BY_HAND), ()) if key[1] == "grpc" else ()
        yield from stall_rows(name, stalls[key], stalls[NONE], by_hand)
        yield from end_rows(name, ends[key], ends[NONE])


def _stalls(
    keys: Sequence[Key], rounds: int, more: int, more_seconds: float
) -> dict[Key, list[Stalled]]:
    """All of them in turns; those over HTTP have a turn in some of the rounds only."""
    by_hand = [(kind, BY_HAND) for kind, protocol in keys if (kind, protocol) == HAND_WRITTEN]
    turns = [*keys, *by_hand]
    taken: dict[Key, list[Stalled]] = {key: [] for key in turns}
    for number in range(more):
        for key in turns:
            if key[0] == HAND_WRITTEN[0] != key[1] != "http" or number % (more // rounds) == 0:
                taken[key].append(stalled(*key, more_seconds))
        turns.append(turns.pop(0))
    return taken
