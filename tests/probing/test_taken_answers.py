"""A thread that has taken what a server said, and is not let go on: that is no silence."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from orchestrator import ProbeResult
from orchestrator._probing import blocking_probe
from orchestrator._probing.blocking_probe import BlockingProbe
from orchestrator._probing.deadline_socket import DeadlineSocket
from orchestrator.checks import amqp, grpc, http, kafka, postgres
from orchestrator.redis import RedisProbe
from tests.certificates import HAVE_OPENSSL, make_certificates
from tests.redis_server import FakeServer, saying, silent

pytestmark = pytest.mark.anyio

PROBES = {
    "redis": lambda port: RedisProbe(f"redis://127.0.0.1:{port}"),
    "http": lambda port: http(f"http://127.0.0.1:{port}/"),
    "postgres": lambda port: postgres(f"postgresql://me@127.0.0.1:{port}/app?sslmode=disable"),
    "amqp": lambda port: amqp(f"amqp://127.0.0.1:{port}"),
    "grpc": lambda port: grpc(f"127.0.0.1:{port}"),
    "kafka": lambda port: kafka(f"127.0.0.1:{port}"),
}


@pytest.fixture(autouse=True)
def _the_thread_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_probe, "can_ask_here", lambda: False)


async def asked(make: Callable[[int], object], port: int, attempts: int = 1) -> list[ProbeResult]:
    probe = make(port)
    assert isinstance(probe, BlockingProbe)
    probe.overtime_seconds = 0.05
    try:
        return [await probe.attempt(0.3) for _ in range(attempts)]
    finally:
        await probe.aclose()


@pytest.mark.parametrize("name", PROBES)
async def test_what_was_taken_and_not_judged_is_no_silence(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, over = Event(), Event()

    def count(*_: object) -> None:
        taken.set()
        over.wait()  # as if the interpreter were not given back
        raise ConnectionResetError

    monkeypatch.setattr(DeadlineSocket, "count", count)
    with FakeServer(saying(b"+")) as server:
        try:
            (result,) = await asked(PROBES[name], server.port)
        finally:
            over.set()
    assert taken.is_set()
    assert result.failure is not None
    assert result.void


@pytest.mark.parametrize("name", PROBES)
async def test_a_silent_server_is_told_from_it(name: str) -> None:
    with FakeServer(silent) as server:
        results = await asked(PROBES[name], server.port, attempts=2)
    assert all(result.failure and not result.void for result in results), results


@pytest.mark.skipif(not HAVE_OPENSSL, reason="needs the openssl program")
async def test_nor_is_a_handshake_that_is_not_let_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_certificates(tmp_path)
    of_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    of_server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    over = Event()
    handshake = ssl.SSLSocket.do_handshake

    def held(secured: ssl.SSLSocket, block: bool = False) -> None:
        handshake(secured, block)
        if not secured.server_side:
            over.wait()

    def talk(sock: socket.socket) -> None:
        with of_server.wrap_socket(sock, server_side=True) as secured:
            silent(secured)

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", held)
    with FakeServer(talk) as server:
        try:
            (result,) = await asked(
                lambda port: http(f"https://127.0.0.1:{port}/", tls=trusting), server.port
            )
        finally:
            over.set()
    assert result.failure is not None
    assert result.void
