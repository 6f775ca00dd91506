"""The gate on every server, seen by real clients. `servers_matrix.py` says what is expected."""

import asyncio
import contextlib
import importlib
import importlib.util
import inspect
import os
import signal
import subprocess
import time
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import websockets
from websockets.exceptions import InvalidMessage, InvalidStatus

from tests.asgi.gate_support import until
from tests.integrations import servers_matrix
from tests.integrations.servers_app import HOLD_SECONDS
from tests.integrations.servers_matrix import PAGE, SERVERS, Behaviour, Server
from tests.redis_server import free_port

pytestmark = [pytest.mark.long, pytest.mark.anyio]

ROOT = Path(__file__).parents[2]
NEEDS = {
    "uvicorn, `wsproto`": "wsproto",
    "gunicorn, `uvicorn_worker.UvicornWorker`": "uvicorn_worker",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the clients run on nothing else


@dataclass
class Running:
    """A server in a process of its own."""

    port: int
    process: subprocess.Popen[bytes]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def order(self, order: str) -> dict[str, Any]:
        """Have something done, and return when it is the case."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            response = await client.get(self.url(f"/control/{order}"))
        answer: dict[str, Any] = response.json()
        return answer

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            return await client.get(self.url(path))

    async def http(self, path: str) -> str:
        """What an HTTP client sees."""
        try:
            return str((await self.get(path)).status_code)
        except httpx.TransportError:
            return "cut off"

    def connect(self, path: str) -> websockets.connect:
        url = f"ws://127.0.0.1:{self.port}{path}"
        return websockets.connect(url, proxy=None, open_timeout=20)

    async def websocket(self, path: str) -> str:
        """What a WebSocket client sees: `pong`, or the status or code that it got instead."""
        try:
            async with self.connect(path) as client:
                await client.send("ping")
                return str(await client.recv())
        except InvalidStatus as error:
            return str(error.response.status_code)
        except websockets.ConnectionClosed as error:
            return str(error.rcvd.code if error.rcvd else 1006)
        except (InvalidMessage, OSError):
            return "cut off"

    async def answers(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return bool((await self.order("nothing"))["done"])
        return False


@asynccontextmanager
async def running(server: Server, directory: Path) -> AsyncGenerator[Running]:
    """Start a server, wait until it answers, and end it whatever happens."""
    for package in (server.module, NEEDS.get(server.name, server.module)):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    port, log = free_port(), directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # starting one takes a millisecond
            server.command(port),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    run = Running(port, process)
    try:
        deadline = time.monotonic() + 20
        while not await run.answers():
            assert process.poll() is None, log.read_text(errors="replace")
            assert time.monotonic() < deadline, log.read_text(errors="replace")
        yield run
    finally:
        if process.poll() is None:
            # The parent of worker processes must end them itself.
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(process.wait, 10)
        process.kill()
        process.wait()


class Upload:
    """A client that sends a body of two parts, and the second only when it is told to."""

    def __init__(self, run: Running) -> None:
        self._run = run
        self._go_on = asyncio.Event()
        self._request = asyncio.create_task(self._send())

    async def _send(self) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            return await client.post(self._run.url("/upload"), content=self._parts())

    async def _parts(self) -> AsyncGenerator[bytes]:
        yield b"one, "
        await self._go_on.wait()
        yield b"two"

    def leave(self) -> None:
        self._request.cancel()

    async def finish(self) -> str:
        """Send the rest; return what has arrived."""
        self._go_on.set()
        return str((await self._request).json()["body"])


async def held_and_served(run: Running) -> dict[str, str]:
    """Clients come too early, some with half a body; some leave, the others are served."""
    uploads = [Upload(run) for _ in range(2)]
    arrived = (await run.order("held/2"))["done"]
    uploads[0].leave()
    freed = (await run.order("held/1"))["done"]
    waiting = 0 if not arrived else 1 if freed else 2
    early = [asyncio.create_task(run.websocket("/ws")) for _ in range(4)]
    request = asyncio.create_task(run.get("/state"))
    leaver = asyncio.create_task(run.websocket("/ws"))
    assert (await run.order(f"held/{waiting + 6}"))["done"]
    leaver.cancel()
    noticed = (await run.order(f"held/{waiting + 5}"))["done"]
    await run.order("ready")
    served = await asyncio.gather(*early)
    response = await request
    assert response.status_code == 200
    assert await uploads[1].finish() == "one, two"
    leaving_upload = "yes" if freed else "no"
    return {
        "uploads": leaving_upload if arrived else "held once it is complete",
        "served": "all served" if served == ["pong"] * 4 else str(served),
        "leaving": "yes" if noticed else "no",
        "lifespan": "yes" if response.json()["state"] else "no",
    }


async def ready_and_degraded(run: Running) -> dict[str, str]:
    """A handler crashes; the service becomes degraded under an open WebSocket."""
    crash = await run.websocket("/crash")
    async with run.connect("/ws") as client:
        await client.send("ping")
        assert await client.recv() == "pong"
        await run.order("degraded")
        with anyio.fail_after(10), pytest.raises(websockets.ConnectionClosed) as closed:
            await client.recv()
    code = str(closed.value.rcvd.code if closed.value.rcvd else 1006)
    closes = (await run.order("nothing"))["closes"]
    assert closes == {"application_error": 1, "1013": 1}
    response = await run.get("/state")
    assert (response.status_code, response.headers["retry-after"] in "123") == (503, True)
    return {
        "crash": crash,
        "degraded": code,
        "refused": await refusal(run),
    }


async def refusal(run: Running) -> str:
    with pytest.raises(InvalidStatus) as refused:
        await run.connect("/ws")
    response = refused.value.response
    tells = ", `Retry-After`" if "Retry-After" in response.headers else ""
    return f"{response.status_code}{tells}"


async def stopped(run: Running) -> dict[str, str]:
    """SIGTERM while clients are held: the server must not wait for their limit.

    Others are inside, and some come only now.
    """
    await run.order("ready")
    websocket = asyncio.create_task(run.websocket("/never"))
    request = asyncio.create_task(run.http("/never"))
    assert (await run.order("never-held/2"))["done"]
    slow = asyncio.create_task(run.http("/slow"))
    async with run.connect("/ws") as client:
        await client.send("ping")
        assert await client.recv() == "pong"
        assert (await run.order("finish-slowly"))["done"]
        began_at = time.monotonic()
        run.process.send_signal(signal.SIGTERM)
        announced = await served_while_announced(run, client)
        with pytest.raises(websockets.ConnectionClosed) as closed:
            await client.recv()
    await until(lambda: run.process.poll() is not None)
    assert time.monotonic() - began_at < HOLD_SECONDS
    return {
        "stopped": await websocket,
        "stopped_http": await request,
        "drained": str(closed.value.rcvd.code if closed.value.rcvd else 1006),
        "running": "ends" if await slow == "200" else "cut off",
        "announced": announced,
    }


async def served_while_announced(run: Running, client: websockets.ClientConnection) -> str:
    """Ask until a new request is not served any more, however long the server takes for that.

    The drain leaves the open WebSocket alone until the announced time is over.
    """
    while (late := await run.http("/state")) == "200":
        pass
    if late == "503":
        return "yes"  # by the gate, which only then refuses
    try:
        await client.send("ping")
        return "no" if await client.recv() == "pong" else "garbled"
    except websockets.ConnectionClosed as closed:
        return "yes" if closed.rcvd else "no"


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name.replace("`", ""))
async def test_what_clients_see(server: Server, tmp_path: Path) -> None:
    async with running(server, tmp_path) as run:
        seen = {
            **await held_and_served(run),
            **await ready_and_degraded(run),
            **await stopped(run),
        }
    assert Behaviour(**seen) == server.expected


async def test_the_page_shows_what_is_tested() -> None:
    assert PAGE.read_text(encoding="utf-8") == servers_matrix.page(), (
        "run `python -m tests.integrations.servers_matrix`"
    )


def test_a_handshake_of_uvicorn_and_websockets_waits_for_as_long_as_its_remark_says() -> None:
    (remark,) = [one.remark for one in SERVERS if one.name == "uvicorn, `websockets`"]
    with warnings.catch_warnings(action="ignore"):  # it is deprecated
        legacy = importlib.import_module("websockets.legacy.server").WebSocketServerProtocol
    seconds = inspect.signature(legacy).parameters["open_timeout"].default
    assert f"waited for {seconds} s" in remark
