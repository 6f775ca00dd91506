"""The examples of the documentation, as they are, under a real uvicorn and with a real Redis."""

import asyncio
import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import websockets

from tests.asgi.gate_support import serving
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on nothing else


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Some frameworks set up the root logger, which is that of the next tests, too."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Django finds the module's routes by its name
    spec.loader.exec_module(module)
    return module


async def what_a_client_gets(port: int) -> str:
    url = f"ws://127.0.0.1:{port}/chat"
    async with websockets.connect(url, proxy=None, open_timeout=20) as client:
        return str(await client.recv())


async def what_a_request_gets(port: int) -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as client:
        return (await client.get(f"http://127.0.0.1:{port}/chat")).text


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("fastapi_app", "fastapi"),
        ("starlette_app", "starlette"),
        ("litestar_app", "litestar"),
        ("quart_app", "quart"),
        ("django_app", "django"),
    ],
)
async def test_clients_that_come_before_redis_are_served(
    name: str, needs: str, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(needs, reason=f"{needs} is not installed")
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    example = load(name)
    # Django's pages are asked over HTTP: it has no WebSockets of its own.
    ask = what_a_request_gets if name == "django_app" else what_a_client_gets
    async with serving(example.app) as port, httpx.AsyncClient(trust_env=False) as http:
        base = f"http://127.0.0.1:{port}"
        clients = [asyncio.create_task(ask(port)) for _ in range(20)]
        assert (await http.get(f"{base}/readyz")).status_code == 503
        assert (await http.get(f"{base}/livez")).status_code == 200
        assert not any(client.done() for client in clients)
        await asyncio.to_thread(redis_server.start)
        assert await asyncio.gather(*clients) == ["ready"] * 20
        assert (await http.get(f"{base}/readyz")).json() == {"status": "pass", "stage": "ready"}
    assert not example.startup.running
