"""The release under servers of the `websockets` library and aiohttp, with a real Redis."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

pytest.importorskip("aiohttp", reason="aiohttp is not installed")

from aiohttp import web

from orchestrator.aiohttp import ReadinessGate
from orchestrator.websockets import process_request
from tests.asgi.gate_support import Startup, until
from tests.gate.light_clients import SERVED, Want, get, websocket
from tests.gate.release_crowd import RedisPool
from tests.gate.release_shapes import INTERNAL_ERROR, PoolEmptyError
from tests.redis_server import RedisServer

pytestmark = [
    pytest.mark.long,
    pytest.mark.anyio,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # both run on nothing else
]

CROWD, HELD, SLOTS = 100, 40, 16
WORK_SECONDS = 0.01

Receive = Callable[[], Awaitable[str | None]]
Send = Callable[[str], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


class Handlers:
    """A handler for each shape, by path, whatever the server."""

    def __init__(self, pool: RedisPool) -> None:
        self._pool = pool

    async def handle(self, path: str, receive: Receive, send: Send) -> None:
        await {
            "/answers": self.answers,
            "/welcomes": self.welcomes,
            "/pushes": self.pushes,
            "/reads_apart": self.reads_apart,
            "/stops_waiting": self.stops_waiting,
        }[path](receive, send)

    async def work(self) -> None:
        async with self._pool.connection():
            pass

    async def answers(self, receive: Receive, send: Send) -> None:
        while (text := await receive()) is not None:
            await self.work()
            await send(text)

    async def welcomes(self, receive: Receive, send: Send) -> None:
        await self.work()
        await send("welcome")
        await self.answers(receive, send)

    async def pushes(self, _: Receive, send: Send) -> None:
        await self.work()
        while True:
            await send("news")
            await asyncio.sleep(0.02)

    async def reads_apart(self, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self.answers(receive, send))
            await self.work()
            await reader

    async def stops_waiting(self, receive: Receive, send: Send) -> None:
        while True:
            try:
                text = await asyncio.wait_for(receive(), 0.001)
            except TimeoutError:
                await asyncio.sleep(0.01)
                continue
            if text is None:
                return
            await self.work()
            await send(text)


PATHS = ("/answers", "/welcomes", "/pushes", "/reads_apart", "/stops_waiting")


def client_of(port: int, path: str, number: int) -> Awaitable[str]:
    messages = 0 if path == "/pushes" else 1 + number % 2
    answers = max(messages, 1) + (path == "/welcomes")
    return websocket(port, Want(path, messages, answers, (0.0, 0.05, 0.2)[number % 3]))


async def seen_by(
    gate_held: Callable[[], tuple[int, int]],
    startup: Startup,
    client: Callable[[int], Awaitable[str]],
) -> Counter[str]:
    async def come(number: int) -> str:
        return await client(number)

    async with asyncio.timeout(120):
        visits = [asyncio.create_task(come(number)) for number in range(CROWD)]
        await until(lambda: gate_held()[0] == HELD and gate_held()[1] >= CROWD)
        startup.make_ready()
        return Counter(await asyncio.gather(*visits))


@pytest.mark.parametrize(
    ("path", "whole"),
    [*((path, True) for path in PATHS), ("/answers", False), ("/welcomes", False)],
)
async def test_websockets_loses_nobody(server: RedisServer, path: str, whole: bool) -> None:
    pool = RedisPool(server.url, 40, WORK_SECONDS)
    handlers = Handlers(pool)

    async def handler(connection: ServerConnection) -> None:
        async def receive() -> str | None:
            return str(await connection.recv())

        try:
            await handlers.handle(path, receive, connection.send)
        except* PoolEmptyError:
            await connection.close(INTERNAL_ERROR)

    async with Startup() as startup:
        check = process_request(startup, max_held=HELD, hold_seconds=60, release_batch=SLOTS)
        options: dict[str, Any] = {"create_connection": check.connection} if whole else {}
        async with serve(
            handler,
            "127.0.0.1",
            0,
            process_request=check,
            backlog=4096,
            open_timeout=120,
            **options,
        ) as serving:
            port = next(iter(serving.sockets)).getsockname()[1]
            seen = await seen_by(
                lambda: (check.held, check.counts.held + check.counts.overflow),
                startup,
                lambda number: client_of(port, path, number),
            )
    await pool.aclose()
    assert seen == {SERVED: CROWD}


@asynccontextmanager
async def an_aiohttp_server(gate: ReadinessGate, handlers: Handlers) -> AsyncGenerator[int]:
    async def chat(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)

        async def receive() -> str | None:
            message = await socket.receive()
            return message.data if message.type is web.WSMsgType.TEXT else None

        try:
            await handlers.handle(request.path, receive, socket.send_str)
        except* PoolEmptyError:
            await socket.close(code=INTERNAL_ERROR)
        return socket

    async def page(_: web.Request) -> web.Response:
        await handlers.work()
        return web.Response(text="answer")

    app = web.Application()
    app.router.add_get("/page", page)
    for path in PATHS:
        app.router.add_get(path, chat)
    gate.setup(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("path", [*PATHS, "/page"])
async def test_aiohttp_loses_nobody(server: RedisServer, path: str) -> None:
    pool = RedisPool(server.url, 40, WORK_SECONDS)
    startup = Startup()
    gate = ReadinessGate(startup, max_held=HELD, hold_seconds=60, release_batch=SLOTS)
    async with an_aiohttp_server(gate, Handlers(pool)) as port:
        seen = await seen_by(
            lambda: (gate.held, gate.counts.held + gate.counts.overflow),
            startup,
            lambda number: (
                get(port, Want(path)) if path == "/page" else client_of(port, path, number)
            ),
        )
    await pool.aclose()
    assert seen == {SERVED: CROWD}
