"""What a Python client sees, and the loop of the documentation that comes back by the rules."""

import asyncio
import importlib.util
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from orchestrator import Stage
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import App, Refused, Startup, serving, until
from tests.asgi.test_gate_server import connect, ping

pytestmark = pytest.mark.anyio

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn and the client run on nothing else


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The loop, in a hurry, and never through a proxy."""
    monkeypatch.setenv("NO_PROXY", "*")
    spec = importlib.util.spec_from_file_location("reconnect", DOCS / "examples" / "reconnect.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.001)
    return module


@pytest.fixture
def waits(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the loop would wait between attempts; here it waits next to nothing."""
    noted: list[float] = []
    wait_seconds = example.wait_seconds

    def shortened(failures: int, at_least: float) -> float:
        noted.append(wait_seconds(failures, at_least))
        return 0.005

    monkeypatch.setattr(example, "wait_seconds", shortened)
    return noted


def talk_to(answers: asyncio.Queue[str]) -> Callable[[ClientConnection], Awaitable[None]]:
    async def talk(websocket: ClientConnection) -> None:
        await websocket.send("ping")
        async for answer in websocket:
            answers.put_nowait(str(answer))

    return talk


async def test_what_it_sees_when_held_degraded_and_recovered() -> None:
    startup = Startup()
    gate = ReadinessGate(App(), startup, manage_lifespan=True, close_on_degrade_seconds=0.05)
    async with serving(gate) as port:
        client = asyncio.create_task(connect(port).__aenter__())
        await until(lambda: gate.held == 1)
        assert not client.done()
        startup.make_ready()
        websocket = await client
        startup.lose()
        await websocket.wait_closed()
        assert websocket.close_code == 1013
        with pytest.raises(InvalidStatus) as refused:
            await connect(port)
        assert refused.value.response.status_code == 503
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        assert await ping(port) == "pong"


async def test_the_loop_goes_through_an_outage_by_itself(
    example: ModuleType, waits: list[float]
) -> None:
    startup = Startup()
    gate = ReadinessGate(App(), startup, manage_lifespan=True, close_on_degrade_seconds=0.05)
    answers: asyncio.Queue[str] = asyncio.Queue()
    async with serving(gate) as port:
        url = f"ws://127.0.0.1:{port}/ws"
        loop = asyncio.create_task(example.stay_connected(url, talk_to(answers)))
        await until(lambda: gate.held == 1)
        startup.make_ready()
        assert await answers.get() == "pong"
        assert not waits
        startup.lose()
        await until(lambda: gate.counts.refused >= 3)
        startup.make_ready()
        assert await answers.get() == "pong"
        loop.cancel()
    closed, *refused = waits
    assert closed < 1  # closed with 1013, which names no time
    assert all(1 <= seconds < 4 for seconds in refused)  # `Retry-After`, and some jitter


async def test_the_loop_outlives_a_server_that_is_not_there(
    example: ModuleType, waits: list[float]
) -> None:
    answers: asyncio.Queue[str] = asyncio.Queue()
    startup = Startup()
    async with serving(ReadinessGate(App(), startup, manage_lifespan=True)) as port:
        pass
    url = f"ws://127.0.0.1:{port}/ws"
    loop = asyncio.create_task(example.stay_connected(url, talk_to(answers)))
    await until(lambda: len(waits) >= 3)
    again = Startup()
    async with serving(ReadinessGate(App(), again, manage_lifespan=True), port=port):
        again.make_ready()
        assert await answers.get() == "pong"
        loop.cancel()


async def test_an_open_connection_alone_does_not_end_the_back_off(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []

    def noted(count: int, _: float) -> float:
        failures.append(count)
        return 0.001

    monkeypatch.setattr(example, "wait_seconds", noted)
    startup = Refused(permanent=True)
    gate = ReadinessGate(App(), startup, manage_lifespan=True, accept_then_close=True)
    async with serving(gate) as port:
        await startup.wait_for(Stage.DEGRADED)
        loop = asyncio.create_task(
            example.stay_connected(f"ws://127.0.0.1:{port}/ws", talk_to(asyncio.Queue()))
        )
        await until(lambda: len(failures) >= 4)
        loop.cancel()
    assert failures[:4] == [1, 2, 3, 4]


async def test_what_nobody_can_mend_is_raised(example: ModuleType) -> None:
    async def no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            start: dict[str, Any] = {"status": 404, "headers": []}
            await send({"type": "websocket.http.response.start", **start})
            await send({"type": "websocket.http.response.body", "body": b""})

    startup = Startup()
    async with serving(ReadinessGate(no_such_path, startup, manage_lifespan=True)) as port:
        startup.make_ready()
        with pytest.raises(InvalidStatus):
            await example.stay_connected(f"ws://127.0.0.1:{port}/ws", talk_to(asyncio.Queue()))


async def test_the_waits_double_up_to_a_limit_and_are_jittered(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "FIRST_SECONDS", 0.5)
    for failures, most in ((1, 1), (2, 2), (5, 16), (6, 30), (10_000, 30)):
        drawn = [example.wait_seconds(failures, 2.0) - 2.0 for _ in range(200)]
        assert 0 <= min(drawn) < most / 4
        assert most * 3 / 4 < max(drawn) <= most


async def test_the_rules_name_the_examples_and_the_numbers_that_hold(example: ModuleType) -> None:
    page = (DOCS / "how-to" / "reconnect.md").read_text(encoding="utf-8")
    for name in re.findall(r"\.\./examples/([\w.]+)", page):
        assert (DOCS / "examples" / name).exists()
    assert f"at least {example.OPEN_SECONDS:.0f} s" in page
    assert f"up to {example.MOST_SECONDS:.0f} s" in page
