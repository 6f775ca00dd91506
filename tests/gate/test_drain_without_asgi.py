"""A drain on aiohttp and with the `websockets` library, seen by real clients."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
import websockets
from aiohttp import web
from websockets.asyncio.server import ServerConnection, serve

from orchestrator import Orchestrator, Policy, Stage
from orchestrator.aiohttp import ReadinessGate
from orchestrator.testing import ScriptedProbe
from orchestrator.websockets import process_request

pytestmark = pytest.mark.anyio

SOCKETS = 6
SECONDS = 30.0
TIMES = Policy(
    grace_seconds=0.0,
    drain_announce_seconds=0.3,
    drain_close_seconds=0.6,
    drain_limit_seconds=20.0,
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # they run on nothing else


@asynccontextmanager
async def inside(port: int) -> AsyncGenerator[list[asyncio.Task[tuple[int, float]]]]:
    """Clients that stay; each task gives the code of its close, and when it came."""
    opened = [asyncio.Event() for _ in range(SOCKETS)]

    async def stay(one: asyncio.Event) -> tuple[int, float]:
        async with websockets.connect(f"ws://127.0.0.1:{port}/ws", proxy=None) as client:
            one.set()
            await client.wait_closed()
            return client.close_code or 1006, time.monotonic()

    tasks = [asyncio.create_task(stay(one)) for one in opened]
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(one.wait() for one in opened))
        yield tasks


async def closed_evenly(tasks: list[asyncio.Task[tuple[int, float]]]) -> None:
    ends = [await task for task in tasks]
    assert [code for code, _ in ends] == [1012] * SOCKETS
    at = sorted(at for _, at in ends)
    assert at[-1] - at[0] >= TIMES.drain_close_seconds / 2, "they were closed all at once"


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not what():
            await asyncio.sleep(0.005)


async def test_aiohttp_drains_as_it_shuts_down() -> None:
    handled: list[str] = []

    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for _ in response:
            pass
        handled.append("ended")
        return response

    async def work(_: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return web.Response(text="done")

    startup = Orchestrator(ScriptedProbe(), policy=TIMES)
    app = web.Application()
    app.router.add_get("/ws", socket)
    app.router.add_get("/work", work)
    gate = ReadinessGate(startup)
    gate.setup(app)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    await startup.wait_for(Stage.READY)
    async with inside(port) as tasks, aiohttp.ClientSession() as session:
        running = asyncio.create_task(session.get(f"http://127.0.0.1:{port}/work"))
        await asyncio.sleep(0.1)
        ending = asyncio.create_task(runner.cleanup())
        await until(lambda: startup.draining)
        await closed_evenly(tasks)
        response = await running
        assert (response.status, response.headers["Connection"]) == (200, "close")
        await ending
    assert handled == ["ended"] * SOCKETS
    assert gate.closes[1012] == SOCKETS


async def test_the_websockets_library_drains_when_it_is_told_to(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[int | None] = []

    async def handle(connection: ServerConnection) -> None:
        try:
            async for _ in connection:
                pass
        finally:
            ended.append(connection.close_code)

    startup = Orchestrator(ScriptedProbe(), policy=TIMES)
    check = process_request(startup)
    options = {"process_request": check, "create_connection": check.connection}
    async with startup, serve(handle, "127.0.0.1", 0, **options) as server:  # type: ignore[arg-type]  # its own types differ between versions
        port = next(iter(server.sockets)).getsockname()[1]
        await startup.wait_for(Stage.READY)
        async with inside(port) as tasks:
            draining = asyncio.create_task(startup.drain("SIGTERM"))
            await until(lambda: startup.draining)
            async with websockets.connect(f"ws://127.0.0.1:{port}/", proxy=None):
                pass  # it is still served
            await closed_evenly(tasks)
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(f"ws://127.0.0.1:{port}/", proxy=None)
            assert refused.value.response.status_code == 503
            await draining
    assert ended.count(1012) == SOCKETS
    if hasattr(ServerConnection, "close_exc"):  # else the library takes 1012 for an error
        assert "connection handler failed" not in caplog.text
