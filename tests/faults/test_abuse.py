"""Malformed and oversized requests to the health endpoints, under a real uvicorn."""

import contextlib
import socket
from typing import Any

import anyio.to_thread
import pytest

from orchestrator.asgi import health_app
from tests.asgi.gate_support import Startup, serving

pytestmark = pytest.mark.anyio

_GET = b"GET /livez HTTP/1.1\r\nhost: x\r\n"
_POST = b"POST /livez HTTP/1.1\r\nhost: x\r\n"
_UPGRADE = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"

MALFORMED = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a method with NUL": b"G\x00T /livez HTTP/1.1\r\nhost: x\r\n\r\n",
    "an unknown method": b"BREW /livez HTTP/1.1\r\nhost: x\r\n\r\n",
    "a long path": b"GET /livez/" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    "a negative length": _GET + b"content-length: -5\r\n\r\n",
    "two lengths": _POST + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "a length and chunks": _POST
    + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bad chunk": _POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a big body": _POST + b"content-length: 5000000\r\n\r\n" + b"x" * 5_000_000,
    "a path upwards": b"GET /livez/../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
    "NUL in the path": b"GET /live%00z HTTP/1.1\r\nhost: x\r\n\r\n",
    "no UTF-8": b"GET /livez%ff%fe?a=%zz HTTP/1.1\r\nhost: x\r\n\r\n",
    "a header with NUL": _GET + b"a: b\x00c\r\n\r\n",
    "a WebSocket": _GET + _UPGRADE + b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "a bad WebSocket": _GET + _UPGRADE + b"sec-websocket-key: nonsense\r\n\r\n",
}

# Servers have limits of their own, or none; then ours holds.
OVERSIZED = {
    "a long header": _GET + b"x: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": _GET + b"x: y\r\n" * 20_000 + b"\r\n",
    "a body with GET": _GET + b"content-length: 5000000\r\n\r\n" + b"x" * 5_000_000,
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on nothing else


def status_of(port: int, request: bytes) -> int:
    """The status of the answer to what is written on the socket as it is."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        # It may answer and close before it has read everything.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(request)
        try:
            answer = sock.recv(4096)
        except ConnectionResetError:
            return 400  # closed with unread bytes, which takes the answer along
    assert answer.startswith(b"HTTP/1.1 "), answer
    assert b"Traceback" not in answer
    return int(answer.split()[1])


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_every_malformed_request_gets_a_plain_4xx(http: Any) -> None:  # uvicorn's own type
    pytest.importorskip(http, reason=f"{http} is not installed")
    async with (
        Startup() as startup,
        serving(
            health_app(startup, details=True), http=http, log_level="critical", lifespan="off"
        ) as port,
    ):
        for name, request in MALFORMED.items():
            status = await anyio.to_thread.run_sync(status_of, port, request)
            assert 400 <= status < 500, name
            assert await anyio.to_thread.run_sync(status_of, port, _GET + b"\r\n") == 200, name
        for name, request in OVERSIZED.items():
            status = await anyio.to_thread.run_sync(status_of, port, request)
            assert 400 <= status < 500, name
