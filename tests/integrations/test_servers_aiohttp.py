"""The middleware under a real aiohttp server, with real clients."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from orchestrator import Stage
from tests.asgi.gate_support import Refused, Startup, until

pytest.importorskip("aiohttp", reason="aiohttp is not installed")

from aiohttp import web

from orchestrator.aiohttp import ReadinessGate

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # aiohttp runs on nothing else


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


async def chat(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    if request.path == "/crash":
        raise RuntimeError("a crash that was ordered")
    async for _ in socket:
        await socket.send_str("pong")
    return socket


@asynccontextmanager
async def a_server(gate: ReadinessGate) -> AsyncGenerator[int]:
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/open", hello)
    app.router.add_get("/livez", hello)
    app.router.add_get("/chat", chat)
    app.router.add_get("/crash", chat)
    gate.setup(app)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def connect(port: int, path: str = "/chat") -> websockets.connect:
    return websockets.connect(f"ws://127.0.0.1:{port}{path}", proxy=None, open_timeout=20)


async def ping(port: int, path: str = "/chat") -> str:
    try:
        async with connect(port, path) as client:
            await client.send("ping")
            return str(await client.recv())
    except InvalidStatus as error:
        return str(error.response.status_code)
    except websockets.ConnectionClosed as error:
        return str(error.rcvd.code if error.rcvd else 1006)


async def get(port: int, path: str = "/") -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return await client.get(f"http://127.0.0.1:{port}{path}")


async def test_those_who_came_too_early_are_served() -> None:
    startup = Startup()
    gate = ReadinessGate(startup)
    async with a_server(gate) as port:
        clients = [asyncio.create_task(ping(port)) for _ in range(50)]
        request = asyncio.create_task(get(port))
        await until(lambda: gate.held == 51)
        startup.make_ready()
        assert Counter(await asyncio.gather(*clients)) == {"pong": 50}
        assert (await request).text == "hello"
        assert await ping(port) == "pong"
    assert (gate.counts.held, gate.counts.admitted) == (51, 52)
    assert not startup.running


async def test_no_websocket_is_a_health_check() -> None:
    startup = Refused(permanent=True)
    async with a_server(ReadinessGate(startup, bypass=["/livez"])) as port:
        await startup.wait_for(Stage.DEGRADED)
        assert (await get(port, "/livez")).status_code == 200
        assert (await get(port, "/livez/")).status_code == 503
        assert await ping(port, "/livez") == "503"


async def test_after_the_stop_new_requests_are_refused() -> None:
    startup = Startup()
    gate = ReadinessGate(startup)
    async with a_server(gate) as port:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        async with connect(port) as inside:
            startup.stop()
            assert (await get(port)).status_code == 503
            assert await ping(port) == "503"
            await inside.send("ping")
            assert await inside.recv() == "pong"


async def test_a_refusal_as_clients_see_it() -> None:
    startup = Refused(permanent=True)
    async with a_server(ReadinessGate(startup, bypass=["/open"])) as port:
        await startup.wait_for(Stage.DEGRADED)
        response = await get(port)
        assert response.status_code == 503
        assert response.headers["retry-after"] in ("1", "2", "3")
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == 503
        assert await ping(port) == "503"
        assert (await get(port, "/open")).text == "hello"


async def test_websocket_only_lets_requests_pass() -> None:
    startup = Refused(permanent=True)
    async with a_server(ReadinessGate(startup, websocket_only=True)) as port:
        await startup.wait_for(Stage.DEGRADED)
        assert (await get(port)).text == "hello"
        assert await ping(port) == "503"


async def test_a_client_that_leaves_frees_its_place() -> None:
    gate = ReadinessGate(Startup())
    async with a_server(gate) as port:
        clients = [asyncio.create_task(ping(port)), asyncio.create_task(get(port))]
        await until(lambda: gate.held == 2)
        for client in clients:
            client.cancel()
        await until(lambda: gate.held == 0)
    assert gate.counts.left == 2


async def test_the_shutdown_does_not_wait_for_those_who_are_held() -> None:
    gate = ReadinessGate(Startup(), hold_seconds=8)
    async with a_server(gate) as port:
        clients = [asyncio.create_task(ping(port)), asyncio.create_task(ping(port, "/"))]
        await until(lambda: gate.held == 2)
        began_at = time.monotonic()
    assert time.monotonic() - began_at < 4
    assert await asyncio.gather(*clients) == ["503", "503"]


async def test_handlers_that_raise_are_counted() -> None:
    startup = Startup()
    gate = ReadinessGate(startup)
    async with a_server(gate) as port:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        assert await ping(port, "/crash") == "1006"
        assert await ping(port) == "pong"
    assert gate.closes == {"application_error": 1}


async def test_open_websockets_are_closed_when_degraded() -> None:
    startup = Startup()
    gate = ReadinessGate(startup, close_on_degrade_seconds=0.1)
    async with a_server(gate) as port:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        clients = [await connect(port) for _ in range(10)]
        startup.lose()
        for client in clients:
            await client.wait_closed()
            assert client.close_code == 1013
    assert gate.closes == {1013: 10}
