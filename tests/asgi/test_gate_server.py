"""The gate under a real uvicorn, with real WebSocket and HTTP clients."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from orchestrator import Stage
from orchestrator._http.asgi_types import ASGIApp, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import (
    App,
    Refused,
    Startup,
    serving,
    until,
)
from tests.redis_server import free_port
from tests.timing import quickest

pytestmark = [
    pytest.mark.anyio,
    # uvicorn says so itself, of the implementation that many still run.
    pytest.mark.filterwarnings("ignore:The `websockets` implementation is deprecated"),
    pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]

ROOT = Path(__file__).parents[2]
IMPLEMENTATIONS = ["websockets-sansio", "websockets"]
NEEDS_WSPROTO = pytest.mark.skipif(find_spec("wsproto") is None, reason="wsproto is not installed")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on nothing else


def gate_of(
    startup: Startup | Refused,
    app: ASGIApp | None = None,
    **options: Any,  # the gate's own
) -> ReadinessGate:
    return ReadinessGate(app or App(), startup, manage_lifespan=True, **options)


def connect(port: int) -> Any:  # awaitable and context manager in one
    return websockets.connect(f"ws://127.0.0.1:{port}/ws", proxy=None, open_timeout=60)


async def ping(port: int) -> str:
    """What a client sees: `pong`, or the code or status that it got instead."""
    try:
        async with connect(port) as client:
            await client.send("ping")
            return str(await client.recv())
    except InvalidStatus as error:
        return str(error.response.status_code)
    except websockets.ConnectionClosed as error:
        return str(error.rcvd.code if error.rcvd else 1006)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


async def is_refused(port: int) -> InvalidStatus:
    with pytest.raises(InvalidStatus) as info:
        await connect(port)
    return info.value


@pytest.mark.parametrize("ws", IMPLEMENTATIONS)
async def test_two_hundred_clients_that_came_too_early_are_all_served(ws: str) -> None:
    startup = Startup()
    gate = gate_of(startup)
    async with serving(gate, ws=ws) as port:
        clients = [asyncio.create_task(ping(port)) for _ in range(200)]
        await until(lambda: gate.held == 200)
        startup.make_ready()
        assert Counter(await asyncio.gather(*clients)) == {"pong": 200}
        assert await ping(port) == "pong"
    assert (gate.counts.held, gate.counts.admitted) == (200, 201)
    assert not gate.closes


@pytest.mark.parametrize("ws", IMPLEMENTATIONS)
async def test_a_refusal_as_a_client_sees_it(ws: str, caplog: pytest.LogCaptureFixture) -> None:
    startup = Refused(permanent=True)
    gate = gate_of(startup, hold_seconds=60)
    async with serving(gate, ws=ws) as port:
        await startup.wait_for(Stage.DEGRADED)
        began_at = time.perf_counter()
        response = (await is_refused(port)).response
        assert time.perf_counter() - began_at < 30  # it was not held
        assert response.status_code == 503
        assert response.headers["Retry-After"] in ("1", "2", "3")
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"] == "application/problem+json"
        assert b'"title":"Service Unavailable"' in (response.body or b"")
    assert not errors(caplog)


async def test_degraded_admits_where_wanted() -> None:
    startup = Refused(permanent=True)
    async with serving(gate_of(startup, admit_degraded=True)) as port:
        await startup.wait_for(Stage.DEGRADED)
        assert await ping(port) == "pong"


@pytest.mark.parametrize("ws", IMPLEMENTATIONS)
async def test_the_hold_limit(ws: str) -> None:
    gate = gate_of(Startup(), hold_seconds=0.2)
    async with serving(gate, ws=ws) as port, httpx.AsyncClient(trust_env=False) as http:
        began_at = time.perf_counter()
        assert await ping(port) == "503"
        assert 0.2 <= time.perf_counter() - began_at < 4  # and not the 5 s of the default
        response = await http.get(f"http://127.0.0.1:{port}/")
        assert response.status_code == 503
        assert response.headers["retry-after"] in ("1", "2", "3")
        assert response.json()["status"] == 503
    assert gate.counts.timed_out == 2


async def test_one_too_many_is_refused_at_once() -> None:
    startup = Startup()
    gate = gate_of(startup, max_held=3)
    async with serving(gate) as port:
        held = [asyncio.create_task(ping(port)) for _ in range(3)]
        await until(lambda: gate.held == 3)
        assert (await is_refused(port)).response.status_code == 503
        startup.make_ready()
        assert await asyncio.gather(*held) == ["pong"] * 3
    assert gate.counts.overflow == 1


@pytest.mark.parametrize("ws", IMPLEMENTATIONS)
async def test_a_client_that_leaves_frees_its_place(
    ws: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate = gate_of(Startup())
    async with serving(gate, ws=ws) as port:
        client = asyncio.create_task(ping(port))
        await until(lambda: gate.held == 1)
        client.cancel()
        await until(lambda: gate.held == 0)
        async with httpx.AsyncClient(trust_env=False) as http:
            request = asyncio.create_task(http.get(f"http://127.0.0.1:{port}/"))
            await until(lambda: gate.held == 1)
            request.cancel()
            await until(lambda: gate.held == 0)
    assert gate.counts.left == 2
    assert not errors(caplog)


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_a_body_posted_while_held_arrives_whole(http: str) -> None:
    startup = Startup()
    gate = gate_of(startup)
    body = bytes(range(256)) * 8192  # 2 MiB
    async with serving(gate, http=http) as port, httpx.AsyncClient(trust_env=False) as client:
        request = asyncio.create_task(client.post(f"http://127.0.0.1:{port}/", content=body))
        await until(lambda: gate.held == 1)
        startup.make_ready()
        response = await request
        assert response.status_code == 200
        assert response.content == body


class Pool:
    """Accepts, then needs one of a hundred connections for a while, or closes with 1011."""

    def __init__(self) -> None:
        self.free = 100

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send({"type": "websocket.accept"})
        if not self.free:
            await send({"type": "websocket.close", "code": 1011})
            return
        self.free -= 1
        await asyncio.sleep(0.02)
        self.free += 1
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": "pong"})


async def test_a_thousand_held_are_released_without_a_single_1011() -> None:
    startup = Startup()
    gate = gate_of(startup, Pool(), max_held=1000, hold_seconds=60)
    async with serving(gate) as port:
        clients = [asyncio.create_task(ping(port)) for _ in range(1000)]
        await until(lambda: gate.held == 1000)
        startup.make_ready()
        assert Counter(await asyncio.gather(*clients)) == {"pong": 1000}
    assert not gate.closes


async def test_without_the_pace_there_would_be_many() -> None:
    startup = Startup()
    gate = gate_of(startup, Pool(), max_held=400, release_batch=400)
    async with serving(gate) as port:
        clients = [asyncio.create_task(ping(port)) for _ in range(400)]
        await until(lambda: gate.held == 400)
        startup.make_ready()
        seen = Counter(await asyncio.gather(*clients))
    assert seen["1011"] > 50
    assert gate.closes == {1011: seen["1011"]}


async def test_an_outage_and_the_way_back() -> None:
    startup = Startup()
    gate = gate_of(startup)
    async with serving(gate) as port:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        client: ClientConnection = await connect(port)
        startup.lose()
        await startup.wait_for(Stage.DEGRADED)
        assert await ping(port) == "503"
        await client.send("those who are in stay in")
        assert await client.recv() == "pong"
        await client.close()
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        assert await ping(port) == "pong"


# -- shutdown --------------------------------------------------------------------------------------

PROGRAM = """
    import sys
    import uvicorn
    from orchestrator.asgi import ReadinessGate
    from tests.asgi.gate_support import App, Refused, Server

    class Announced(Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            print(self.port, flush=True)

    async def app(scope, receive, send):
        if scope["type"] != "lifespan":
            print("arrived", flush=True)
        await inside(scope, receive, send)

    gated, ws = sys.argv[1] == "gated", sys.argv[2]
    inside = ReadinessGate(App(), Refused(), manage_lifespan=True) if gated else App()
    config = uvicorn.Config(app, port=0, ws=ws, log_level="error")
    Announced(config).run()
"""


async def seconds_to_exit(*, gated: bool, ws: str) -> tuple[float, str]:
    """How long SIGTERM takes with 20 open WebSockets, and what was logged."""
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", textwrap.dedent(PROGRAM)),
        *("gated" if gated else "open", ws),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    port = int(await program.stdout.readline())
    clients = [asyncio.create_task(ping(port)) for _ in range(20)]
    for _ in clients:
        await program.stdout.readline()
    program.send_signal(signal.SIGTERM)
    began_at = time.perf_counter()
    _, logged = await program.communicate()
    took_seconds = time.perf_counter() - began_at
    assert program.returncode == -signal.SIGTERM  # uvicorn repeats the signal when it is done
    await asyncio.gather(*clients)
    return took_seconds, logged.decode()


@pytest.mark.parametrize("ws", IMPLEMENTATIONS)
async def test_sigterm_with_held_handshakes_ends_as_fast_as_without_the_gate(ws: str) -> None:
    async def longer_by() -> float:
        without, _ = await seconds_to_exit(gated=False, ws=ws)
        held, logged = await seconds_to_exit(gated=True, ws=ws)
        assert "Traceback" not in logged
        assert "ASGI callable returned" not in logged
        return held - without

    # Each would be held for 5 s.
    assert await quickest(longer_by, 0.5) < 2.0


# -- a shutdown with many held ---------------------------------------------------------------------

HELD = 200
SIGNALLED = """
from orchestrator import Orchestrator
from orchestrator.asgi import ReadinessGate
from orchestrator.testing import ScriptedProbe
import json

startup = Orchestrator(ScriptedProbe(), conditions=["never"])

async def application(scope, receive, send):
    body = json.dumps(gate.held).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

gate = ReadinessGate(
    application, startup, manage_lifespan=True, hold_seconds=120, max_held=1000, bypass=["/held"]
)
"""


async def held_on(port: int) -> int | None:
    """How many are held; `None` before anybody answers."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
            return int((await client.get(f"http://127.0.0.1:{port}/held")).text)
    except httpx.TransportError:
        return None


async def refused_with(port: int) -> str:
    try:
        async with connect(port):
            return "let in"
    except InvalidStatus as error:
        return f"{error.response.status_code} {'Retry-After' in error.response.headers}"
    except (OSError, websockets.InvalidMessage, websockets.ConnectionClosed) as error:
        return type(error).__name__


@pytest.mark.parametrize("ws", [*IMPLEMENTATIONS, pytest.param("wsproto", marks=NEEDS_WSPROTO)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_all_who_are_held_get_a_503_when_the_server_is_told_to_end(
    number: signal.Signals, ws: str, tmp_path: Path
) -> None:
    (tmp_path / "signalled.py").write_text(SIGNALLED)
    port = free_port()
    program = subprocess.Popen(  # starting one takes a millisecond
        [
            *(sys.executable, "-W", "ignore", "-m", "uvicorn", "signalled:gate"),
            *("--app-dir", str(tmp_path), "--port", str(port), "--ws", ws),
            *("--log-level", "critical"),
        ],
        cwd=ROOT,
    )
    try:
        while await held_on(port) is None:
            assert program.poll() is None
            await asyncio.sleep(0.05)
        clients = [asyncio.create_task(refused_with(port)) for _ in range(HELD)]
        while (held := await held_on(port)) != HELD:
            assert not any(client.done() for client in clients), held
        program.send_signal(number)
        assert Counter(await asyncio.gather(*clients)) == {"503 True": HELD}
        # As without a gate: uvicorn repeats the signal when it is done, and catches Ctrl-C.
        ended = await asyncio.to_thread(program.wait, 30)
        assert ended == (-number if number is signal.SIGTERM else 0)
    finally:
        program.kill()
        program.wait()
