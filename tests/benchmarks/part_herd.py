"""How soon many instances are back when a Redis on TLS is, beside what that Redis can do at most.

A handshake costs the server a signature, and one that the client gives up costs as much: a herd
that is in a hurry keeps the server busy for nobody. So the ratio counts, in one and the same run.
"""

import asyncio
import os
import queue
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import redis

from tests.benchmarks.rows import Figure, Row, at_most
from tests.certificates import openssl
from tests.redis_server import RedisServer, free_port

PART = "herd"
PROCESSES = 2
LANES = 64
"""So many connections are opened side by side to see what the server can do."""


@dataclass(frozen=True, slots=True)
class Herd:
    """How one herd came back.

    Attributes:
        seconds: When each instance had its first answer, after the return; sorted.
        missing: How many had none in time.
        knocks_each: How many connections each had opened by then.
    """

    seconds: Sequence[float]
    missing: int
    knocks_each: float = 1.0

    def within(self, share: float) -> float:
        """When this share of the instances was back, in seconds; infinite where they were not."""
        at = round((len(self.seconds) + self.missing) * share) - 1
        return self.seconds[at] if at < len(self.seconds) else float("inf")


class HerdRedis:
    """A Redis whose port can be opened and closed while it runs.

    Args:
        directory: Where its files are.
        bits: How long the RSA key of its certificate is; `None` for a Redis without TLS.
        most_clients: How many clients it takes.
    """

    def __init__(self, directory: Path, bits: int | None, most_clients: int) -> None:
        self._socket = directory / "redis.sock"
        self.certificate: Path | None = None
        arguments = ["--unixsocket", str(self._socket), "--maxclients", str(most_clients)]
        arguments += ["--tcp-backlog", "4096"]
        if bits is not None:
            key = ("-newkey", f"rsa:{bits}", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1")
            name = ("-addext", "subjectAltName=IP:127.0.0.1")
            files = ("-keyout", "key.pem", "-out", "certificate.pem")
            openssl(directory, "req", "-x509", *key, *name, *files)
            self.certificate = directory / "certificate.pem"
            arguments += ["--tls-auth-clients", "no", "--tls-cert-file", str(self.certificate)]
            arguments += ["--tls-key-file", str(directory / "key.pem")]
        self.server = RedisServer(None, *arguments)

    def __enter__(self) -> Self:
        self.server.start()
        self.admin = redis.Redis(unix_socket_path=str(self._socket))
        return self

    def __exit__(self, *_: object) -> None:
        self.admin.close()
        self.server.stop()

    def url(self, port: int) -> str:
        """Where the herd looks for it."""
        if self.certificate is None:
            return f"redis://127.0.0.1:{port}/0"
        return f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={self.certificate}"

    def open(self, port: int) -> None:
        """Listen there."""
        self.admin.config_set("port" if self.certificate is None else "tls-port", port)

    @property
    def connections(self) -> int:
        """How many it has accepted so far, or told that it has no room."""
        stats = self.admin.info("stats")
        return int(stats["total_connections_received"]) + int(stats["rejected_connections"])


def capacity(server: HerdRedis, port: int, seconds: float) -> float:
    """How many new connections per second the server gives an answer to, at the most."""
    authority = server.certificate
    context = None if authority is None else ssl.create_default_context(cafile=str(authority))

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            writer.write(b"PING\r\n")
            await reader.readline()
        finally:
            writer.transport.abort()

    async def main() -> float:
        done: list[float] = []
        all_under_way, over = asyncio.Event(), asyncio.Event()

        async def lane() -> None:
            while not over.is_set():
                await ask()
                done.append(time.monotonic())
                if len(done) == LANES:
                    all_under_way.set()

        async with asyncio.TaskGroup() as lanes:
            for _ in range(LANES):
                lanes.create_task(lane())
            await all_under_way.wait()
            first = len(done)
            await asyncio.sleep(seconds)
            over.set()
        return (len(done) - first) / (done[-1] - done[first - 1])

    return asyncio.run(main())


def _read(process: "subprocess.Popen[str]", lines: "queue.Queue[str]") -> None:
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            lines.put(line.strip())


@contextmanager
def instances(
    url: str, count: int, seconds: float, authority: Path | None, fleet_size: int, pace: str = ""
) -> Iterator["queue.Queue[str]"]:
    """So many instances in a few processes; yields what they print, once all have begun."""
    # Each reads the system's authorities for each connection, which costs more than the handshake;
    # on machines of their own they would not do that all at once.
    environment = {**os.environ, "SSL_CERT_FILE": str(authority), "SSL_CERT_DIR": "/nowhere"}
    environment["ORCHESTRATOR_FLEET_SIZE"] = str(fleet_size)
    lines: queue.Queue[str] = queue.Queue()
    with ExitStack() as stack:
        for number in range(PROCESSES):
            share = count // PROCESSES + (number < count % PROCESSES)
            command = [sys.executable, "-m", "tests.benchmarks.herd_process", url]
            process = subprocess.Popen(
                [*command, str(share), str(seconds), *([pace] if pace else [])],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
            reader.start()
            stack.callback(reader.join)
            stack.callback(process.wait)
            stack.callback(process.kill)
        for _ in range(PROCESSES):
            if (line := lines.get(timeout=60)) != "begun":
                raise RuntimeError(f"an instance was there before Redis: {line}")
        yield lines


def stampede(
    server: HerdRedis,
    count: int,
    outage_seconds: float = 4.0,
    most_seconds: float = 40.0,
    fleet_size: int = 1,
    pace: str = "",
) -> Herd:
    """Let `count` instances, which take the fleet for so large, wait for a Redis; open its port.

    With a pace they leave once they have their answer: see `herd_process`.
    """
    port = free_port()
    lifetime = outage_seconds + most_seconds + 60
    where = server.url(port), count, lifetime, server.certificate, fleet_size, pace
    with instances(*where) as lines:
        time.sleep(outage_seconds)
        before = server.connections
        began_at = time.monotonic()
        server.open(port)
        back: list[float] = []
        while len(back) < count and (left := began_at + most_seconds - time.monotonic()) > 0:
            try:
                back.append(float(lines.get(timeout=left)) - began_at)
            except queue.Empty:
                break
        knocks = (server.connections - before) / count
        return Herd(sorted(back), count - len(back), knocks)


def measure(rounds: int = 2, count: int = 300, bits: int = 4096) -> Iterator[Row]:
    """Measure the part."""
    possible, unknown, known = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(rounds):
            # A new one for each herd: one that was overrun goes on with what nobody waits for.
            with HerdRedis(Path(directory), bits, 3 * count + 500) as server:
                port = free_port()
                server.open(port)
                possible.append(0.99 * count / capacity(server, port, 3.0))
                server.open(0)
                unknown.append(stampede(server, count))
            with HerdRedis(Path(directory), bits, 3 * count + 500) as server:
                known.append(stampede(server, count, fleet_size=count))
    floor = Figure(f"what this Redis can do, RSA-{bits}", tuple(possible))
    for herds, fleet in ((unknown, f"{count} instances"), (known, f"a known fleet of {count}")):
        ours = Figure("orchestrator", tuple(herd.within(0.99) for herd in herds))
        yield Row(
            part=PART,
            what=f"99 % of {fleet} have an answer after a Redis on TLS is back",
            unit="s",
            ours=ours,
            floor=floor,
            verdicts=(at_most(ours, 2.0, floor),),
        )
