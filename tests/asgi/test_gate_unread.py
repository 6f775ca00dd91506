"""Open WebSockets whose clients take nothing any more, when the service becomes degraded."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve

from orchestrator import Stage
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.aiohttp import ReadinessGate as AiohttpGate
from orchestrator.asgi import ReadinessGate
from orchestrator.websockets import process_request
from tests.asgi.gate_support import Startup, serving, until
from tests.asgi.test_gate_server import NEEDS_WSPROTO

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The `websockets` implementation is deprecated"),
    pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]

NEWS = b"x" * 65536
HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # these servers run on nothing else


@dataclass
class Pushing:
    """Handlers that push without end.

    Attributes:
        sent: How many messages each running handler has sent.
    """

    sent: dict[int, int] = field(default_factory=dict)

    async def push(self, send: Callable[[], Awaitable[object]]) -> None:
        me = len(self.sent)
        self.sent[me] = 0
        try:
            while True:
                await send()
                self.sent[me] += 1
                await asyncio.sleep(0.001)
        finally:
            del self.sent[me]

    async def one_is_stuck(self) -> None:
        """Until nothing more can be sent to whoever takes nothing."""
        with anyio.fail_after(60):
            while True:
                before = self.sent.copy()
                await asyncio.sleep(0.5)
                if any(self.sent[one] == before[one] > 0 for one in before):
                    return


@asynccontextmanager
async def uvicorn_with(
    ws: str, startup: Startup, pushing: Pushing
) -> AsyncGenerator[tuple[int, Mapping[int | str, int]]]:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await pushing.push(lambda: send({"type": "websocket.send", "bytes": NEWS}))

    gate = ReadinessGate(app, startup, close_on_degrade_seconds=0.1)
    async with startup, serving(gate, ws=ws, lifespan="off") as port:
        yield port, gate.closes


@asynccontextmanager
async def websockets_with(
    _: str, startup: Startup, pushing: Pushing
) -> AsyncGenerator[tuple[int, Mapping[int | str, int]]]:
    async def push(connection: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            await pushing.push(lambda: connection.send(NEWS))

    check = process_request(startup, close_on_degrade_seconds=0.1)
    options: dict[str, Any] = {"process_request": check, "create_connection": check.connection}
    async with startup, serve(push, "127.0.0.1", 0, **options) as server:
        yield next(iter(server.sockets)).getsockname()[1], check.closes


@asynccontextmanager
async def aiohttp_with(
    _: str, startup: Startup, pushing: Pushing
) -> AsyncGenerator[tuple[int, Mapping[int | str, int]]]:
    async def push(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            await pushing.push(lambda: response.send_bytes(NEWS))
        return response

    gate = AiohttpGate(startup, close_on_degrade_seconds=0.1)
    app = web.Application()
    app.router.add_get("/chat", push)
    gate.setup(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1], gate.closes
    finally:
        await runner.cleanup()


async def read_on(port: int) -> int | None:
    """A client that reads everything; return how it was closed."""
    async with websockets.connect(f"ws://127.0.0.1:{port}/chat", proxy=None) as client:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await client.recv()
        return client.close_code


@pytest.mark.parametrize(
    ("server", "ws"),
    [
        (uvicorn_with, "websockets-sansio"),
        (uvicorn_with, "websockets"),
        pytest.param(uvicorn_with, "wsproto", marks=NEEDS_WSPROTO),
        (websockets_with, ""),
        (aiohttp_with, ""),
    ],
)
async def test_only_a_close_that_is_out_is_counted_and_no_handler_stays(
    server: Callable[..., AbstractAsyncContextManager[tuple[int, Mapping[int | str, int]]]],
    ws: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator._gate.open_sockets._CLOSE_SECONDS", 1.0)
    startup, pushing = Startup(), Pushing()
    async with server(ws, startup, pushing) as (port, closes):
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            deaf.sendall(HANDSHAKE)
            await until(lambda: len(pushing.sent) == 1)
            await pushing.one_is_stuck()
            reader = asyncio.create_task(read_on(port))
            await until(lambda: len(pushing.sent) == 2)
            startup.lose()
            assert await reader == 1013
            await until(lambda: not pushing.sent)
            assert closes == {1013: 1}
