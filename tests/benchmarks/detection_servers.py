"""Servers that start at a given moment and tell when they can answer.

The moment is that of the server's own log line "Ready to accept connections", the last thing that
it does before it begins to answer. A process that does nothing else meanwhile reads it from a pipe;
so it is known some tens of microseconds late on a machine that is not busy.
"""

import contextlib
import itertools
import os
import random
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.redis_server import find_redis_server

_READY = b"eady to accept connections"  # "The server is now ready ..." on a Unix socket
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LEAST_PORT = 10_000
_SLACK_SECONDS = 10.0


def _first_ephemeral() -> int:
    return int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32768


# All different, and in each run others, so that no server finds the port of one before it in use.
_PORTS: Iterator[int] = itertools.islice(
    itertools.cycle(range(_LEAST_PORT, max(_first_ephemeral(), _LEAST_PORT + 1000))),
    random.randrange(20_000),
    None,
)


def unused_port() -> int:
    """A port that no client's socket can have.

    Whoever connects to a closed port of 127.0.0.1 again and again is given that very port for its
    own end some day, and is then connected to itself, and holds the port.
    """
    for port in _PORTS:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("it is a cycle")


@dataclass(slots=True)
class Late:
    """A server that starts when it is told to.

    Attributes:
        start_at: When it is to start, in monotonic seconds.
        path: Its Unix socket; it has none but that, and no port, if this is not empty.
        port: Its TCP port.
        ready_at: When it could answer; 0 until then.
    """

    start_at: float
    path: str = ""
    port: int = field(default_factory=unused_port)
    ready_at: float = 0.0
    _process: subprocess.Popen[bytes] | None = None
    _said: bytes = b""

    @property
    def url(self) -> str:
        return f"unix://{self.path}" if self.path else f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def prepare(self, folder: str) -> None:
        """Make a process that becomes the server by one line on its stdin: the rest costs none."""
        listen = ["--unixsocket", self.path, "--port", "0"] if self.path else []
        listen = listen or ["--port", str(self.port), "--bind", "127.0.0.1"]
        quiet = ["--save", "", "--appendonly", "no", "--dir", folder, "--loglevel", "notice"]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _ && exec "$@"', "sh", find_redis_server(), *listen, *quiet],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def start(self) -> None:
        """Go."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def fileno(self) -> int:
        """Of its log."""
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def heard(self, at: float) -> None:
        """Its log was readable at `at`."""
        data = os.read(self.fileno(), 65536)
        if not data:
            raise RuntimeError(f"redis-server at {self.url} ended: {self._said.decode()}")
        self._said += data
        if _READY in self._said and not self.ready_at:
            self.ready_at = at

    def stop(self) -> None:
        """End it, frozen or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def start_all(servers: Sequence[Late]) -> None:
    """Start each at its moment, and return once all of them can answer."""
    waiting = sorted(servers, key=lambda server: server.start_at)
    until = waiting[-1].start_at + _SLACK_SECONDS
    with selectors.DefaultSelector() as selector:
        for server in waiting:
            selector.register(server, selectors.EVENT_READ)
        while not all(server.ready_at for server in servers):
            while waiting and waiting[0].start_at <= time.monotonic():
                waiting.pop(0).start()
            ends_at = waiting[0].start_at if waiting else until
            heard = selector.select(max(0.0, ends_at - time.monotonic()))
            at = time.monotonic()
            for key, _events in heard:
                key.fileobj.heard(at)  # type: ignore[union-attr]  # they are what was registered
            if at > until:
                raise TimeoutError("a server does not get ready")


@contextlib.contextmanager
def prepared(servers: Sequence[Late]) -> Iterator[None]:
    """All servers' processes, which end with this."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        try:
            for server in servers:
                server.prepare(folder)
            yield
        finally:
            for server in servers:
                server.stop()


def signal_at(moments: Sequence[tuple[float, int, signal.Signals]]) -> list[float]:
    """Signal each process at its moment; return when it really was, in the given order."""
    sent = [0.0] * len(moments)
    for place in sorted(range(len(moments)), key=lambda place: moments[place][0]):
        at, pid, number = moments[place]
        time.sleep(max(0.0, at - time.monotonic()))
        sent[place] = time.monotonic()
        os.kill(pid, number)
    return sent
