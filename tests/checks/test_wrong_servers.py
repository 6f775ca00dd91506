"""Every probe on the port of every other server: none holds, and what answers otherwise is named.

What answers in another protocol is a permanent failure, since only another address or another
server helps. One that says nothing to what it does not understand, or closes, cannot be told from
one that is busy or stopping, and stays transient.
"""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from orchestrator import FailureKind, Probe, ProbeResult
from orchestrator.checks import amqp, grpc, http, kafka, postgres
from orchestrator.redis import RedisProbe
from tests.certificates import HAVE_OPENSSL
from tests.checks.test_grpc_probe import grpc_server
from tests.checks.test_kafka_probe import broker
from tests.postgres_server import PostgresProcess, find_postgres
from tests.rabbitmq_server import RabbitProcess, find_rabbitmq
from tests.redis_server import RedisServer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),
    pytest.mark.skipif(not HAVE_OPENSSL, reason="needs the openssl program"),
]

TIMEOUT_SECONDS = 10.0
"""Long, since a busy machine may be late; only servers that stay silent take it."""

PROBES: dict[str, Callable[[int], Probe]] = {
    "redis": lambda port: RedisProbe(f"redis://127.0.0.1:{port}"),
    "rediss": lambda port: RedisProbe(f"rediss://127.0.0.1:{port}"),
    "postgres": lambda port: postgres(f"postgresql://app:hunter2@127.0.0.1:{port}/app"),
    "amqp": lambda port: amqp(f"amqp://127.0.0.1:{port}"),
    "amqps": lambda port: amqp(f"amqps://127.0.0.1:{port}"),
    "kafka": lambda port: kafka(f"127.0.0.1:{port}"),
    "grpc": lambda port: grpc(f"127.0.0.1:{port}"),
    "grpcs": lambda port: grpc(f"127.0.0.1:{port}", tls=True),
    "http": lambda port: http(f"http://127.0.0.1:{port}/"),
    "https": lambda port: http(f"https://127.0.0.1:{port}/"),
}

# Which probe gets what from which server. `mute`: no answer, or the end of the connection.
TABLE = """
probe     redis   postgres  rabbitmq    kafka   grpc        http    https
redis     holds   mute      other       mute    other       other   mute/tls
rediss    mute    mute      tls         mute    tls         tls     tls
postgres  mute    login     other       mute    other       mute    mute/tls
amqp      mute    mute      login       mute    other       mute    mute/tls
amqps     mute    mute      tls         mute    tls         tls     tls
kafka     mute    other     mute/other  holds   mute/other  mute    mute/tls
grpc      other   mute      mute/other  mute    holds       other   mute/tls
grpcs     mute    mute      tls         mute    tls         tls     tls
http      mute    mute      mute/other  mute    mute/other  holds   mute/tls
https     mute    mute      tls         mute    tls         tls     tls
"""

MEANING = {
    (FailureKind.PERMANENT, "InvalidResponse"): "other",
    (FailureKind.PERMANENT, "TlsMismatch"): "tls",
    (FailureKind.PERMANENT, "CertificateError"): "tls",
    (FailureKind.PERMANENT, "AuthenticationError"): "login",
    (FailureKind.TRANSIENT, "ConnectionClosed"): "mute",
    (FailureKind.TRANSIENT, "TimeoutError"): "mute",
}


class Fine(BaseHTTPRequestHandler):
    """Answers every request with 204."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


class HttpServer(ThreadingHTTPServer):
    """Does not report clients that speak no HTTP."""

    def handle_error(self, *_: object) -> None: ...


@contextmanager
def http_server(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    with HttpServer(("127.0.0.1", 0), Fine) as one:
        if tls is not None:
            one.socket = tls.wrap_socket(
                one.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=one.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield one.server_address[1]
        finally:
            one.shutdown()
            thread.join()


@contextmanager
def servers(certificates: Path) -> Iterator[dict[str, int]]:
    """A port of each server of the table that can be had here."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with ExitStack() as stack:
        ports = {
            "redis": stack.enter_context(RedisServer()).port,
            "kafka": stack.enter_context(broker()),
            "grpc": stack.enter_context(grpc_server())[0],
            "http": stack.enter_context(http_server()),
            "https": stack.enter_context(http_server(tls)),
        }
        if find_postgres() is not None:
            ports["postgres"] = stack.enter_context(PostgresProcess()).port
        if find_rabbitmq() is not None:
            ports["rabbitmq"] = stack.enter_context(RabbitProcess()).port
        yield ports


def meaning_of(result: ProbeResult) -> str:
    failure = result.failure
    if failure is None:
        return "holds"
    return MEANING.get((failure.kind, failure.error_type), f"{failure.kind} {failure.error_type}")


@pytest.mark.long
async def test_no_probe_holds_on_another_server_and_another_protocol_is_permanent(
    certificates: Path,
) -> None:
    columns, *rows = (line.split() for line in TABLE.split("\n") if line)
    wanted = {(row[0], name): cell for row in rows for name, cell in zip(columns, row, strict=True)}
    found: dict[tuple[str, str], str] = {}

    async def ask(probe_name: str, server_name: str, port: int) -> None:
        probe = PROBES[probe_name](port)
        try:
            result = await probe.attempt(TIMEOUT_SECONDS)
        finally:
            await probe.aclose()
        found[probe_name, server_name] = meaning_of(result)
        assert "hunter2" not in repr(result)

    with servers(certificates) as ports:
        async with anyio.create_task_group() as tasks:
            for probe_name in PROBES:
                for server_name, port in ports.items():
                    tasks.start_soon(ask, probe_name, server_name, port)
    assert len(found) == len(PROBES) * len(ports)
    assert {
        pair: (said, wanted[pair])
        for pair, said in found.items()
        if said not in wanted[pair].split("/")
    } == {}
