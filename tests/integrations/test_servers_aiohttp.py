"""The middleware under a real aiohttp server, with real clients."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from orchestrator import Stage
from tests.asgi.gate_support import Refused, Startup, until

pytest.importorskip("aiohttp", reason="aiohttp is not installed")

from aiohttp import WSMessage, web

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
async def a_server(gate: ReadinessGate, handler: Any = chat) -> AsyncGenerator[int]:  # aiohttp's
    app = web.Application()
    for path in ("/first", "/second"):
        app.router.add_get(path, handler)
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
    gate = ReadinessGate(Startup(), hold_seconds=60)
    async with a_server(gate) as port:
        clients = [asyncio.create_task(ping(port)), asyncio.create_task(ping(port, "/"))]
        await until(lambda: gate.held == 2)
        began_at = time.monotonic()
    assert time.monotonic() - began_at < 30
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


# -- slots while `ready` is young ------------------------------------------------------------------


@asynccontextmanager
async def first_waits_for_second(
    first: Callable[[web.WebSocketResponse], Awaitable[None]], may_end: asyncio.Event
) -> AsyncGenerator[tuple[websockets.ClientConnection, ReadinessGate]]:
    """A client whose handler is `first`; that of another one has the only slot until `may_end`."""
    both_begun = asyncio.Event()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if request.path == "/first":
            await first(socket)
        else:
            both_begun.set()
            await may_end.wait()
        return socket

    startup = Startup()
    gate = ReadinessGate(startup, release_batch=1)
    async with a_server(gate, handler) as port:
        clients = []
        for path in ("/first", "/second"):
            clients.append(asyncio.ensure_future(connect(port, path).__aenter__()))
            await until(lambda: gate.held == len(clients))
        startup.make_ready()
        await both_begun.wait()
        yield await clients[0], gate
        may_end.set()
        for client in clients:
            await (await client).close()


def waits_for_a_slot(gate: ReadinessGate) -> bool:
    return bool(gate._admission.turnstile._turns)


async def test_a_message_outlives_a_receive_that_gave_up_and_its_client() -> None:
    got: list[object] = []
    limits: list[asyncio.Timeout] = []
    may_end = asyncio.Event()

    async def first(socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as limit:
                limits.append(limit)
                await socket.receive()
        got.extend([message.data async for message in socket])

    async with first_waits_for_second(first, may_end) as (client, gate):
        await client.send("one")
        await client.send("two")
        await until(lambda: waits_for_a_slot(gate))
        limits[0].reschedule(asyncio.get_running_loop().time())
        closing = asyncio.create_task(client.close())
        may_end.set()
        await until(lambda: got == ["one", "two"])
        await closing


@pytest.mark.parametrize("cancelled", [True, False])
async def test_two_tasks_that_receive_at_once_get_a_message_each(cancelled: bool) -> None:
    tasks: list[asyncio.Task[WSMessage]] = []
    another, may_end = asyncio.Event(), asyncio.Event()

    async def first(socket: web.WebSocketResponse) -> None:
        tasks.append(asyncio.create_task(socket.receive()))
        await another.wait()
        tasks.append(asyncio.create_task(socket.receive()))
        await asyncio.sleep(0)
        if cancelled:
            tasks[0].cancel()
        may_end.set()
        await asyncio.wait(tasks)

    async with first_waits_for_second(first, may_end) as (client, gate):
        await client.send("one")
        await client.send("two")
        await until(lambda: waits_for_a_slot(gate))
        another.set()
        await until(lambda: len(tasks) == 2 and all(task.done() for task in tasks))
    assert tasks[0].cancelled() == cancelled
    got = [task.result().data for task in tasks if not task.cancelled()]
    assert got == (["one"] if cancelled else ["one", "two"])


@pytest.mark.parametrize("ends", ["raises", "closes", "sends to one that left"])
async def test_what_a_handler_does_counts_against_more_slots_and_leaving_does_not(
    ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []
    ended = asyncio.Event()

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            if ends == "raises":
                raise RuntimeError("a crash that was ordered")
            if ends == "closes":
                await socket.close(code=1011)
            while ends == "sends to one that left":
                await socket.send_str("news")
                await asyncio.sleep(0.001)
        finally:
            ended.set()
        return socket

    startup = Startup()
    gate = ReadinessGate(startup)
    monkeypatch.setattr(gate._admission.turnstile, "failed", lambda: failures.append(1))
    async with a_server(gate, handler) as port:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        assert gate._admission.turnstile.young
        async with connect(port, "/first") as client:
            if ends == "sends to one that left":
                client.transport.abort()
            await ended.wait()
    assert len(failures) == (ends != "sends to one that left")
    assert gate.closes == ({"application_error": 1} if ends == "raises" else {})
