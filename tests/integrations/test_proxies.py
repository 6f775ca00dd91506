"""Real nginx and HAProxy before services that start: the settings of the guide, and its traps."""

import asyncio
import os
import pwd
import re
import shutil
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import websockets
from websockets.exceptions import InvalidStatus

from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import App, Startup, serving, until
from tests.redis_server import free_port

pytestmark = [pytest.mark.long, pytest.mark.anyio]

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"
PATIENCE_SECONDS = 60.0
_FALL = 3
NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # uvicorn runs on nothing else


def program(name: str) -> str:
    # Debian has nginx and haproxy where only root's PATH leads.
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    """Skip before anything is started."""
    if "proxy" in request.fixturenames:
        program(request.getfixturevalue("proxy").__name__)


@pytest.fixture
def has_nginx() -> None:
    program("nginx")


@pytest.fixture
def has_haproxy() -> None:
    program("haproxy")


class Service:
    """One instance: real uvicorn, a gate, and a start-up in the test's hand."""

    def __init__(self, **options: Any) -> None:  # the gate's own
        self.startup = Startup()
        self.gate = ReadinessGate(App(), self.startup, health=True, **options)
        self.port = 0
        self.checks = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.gate(scope, receive, send)
        self.checks += scope.get("path") == "/readyz"


@asynccontextmanager
async def services(
    hold_seconds: float = 30.0, **server: object
) -> AsyncGenerator[tuple[Service, Service]]:
    """Two instances that start."""
    both = Service(hold_seconds=hold_seconds), Service(hold_seconds=hold_seconds)
    async with AsyncExitStack() as stack:
        for one in both:
            await stack.enter_async_context(one.startup)
            one.port = await stack.enter_async_context(serving(one, lifespan="off", **server))
        yield both


def aimed(text: str, port: int, both: tuple[Service, Service]) -> str:
    """A configuration of the guide, with our addresses."""
    for number, one in enumerate(both, start=1):
        text = text.replace(f"chat-{number}:8000", f"127.0.0.1:{one.port}")
    return re.sub(r"(listen|bind) :?80\b", rf"\1 127.0.0.1:{port}", text)


@asynccontextmanager
async def nginx(
    both: tuple[Service, Service], path: Path, *changes: tuple[str, str]
) -> AsyncGenerator[int]:
    port = free_port()
    text = changed(aimed((DEPLOY / "nginx.conf").read_text(), port, both), changes)
    user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
    places = "\n".join(
        f"{one}_temp_path {path}/{one};"
        for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"""
{user} daemon off; pid {path}/pid; error_log {path}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{ access_log off; {places}
{text} }}
"""
    config = path / "nginx.conf"
    config.write_text(whole)
    async with running([program("nginx"), "-c", str(config), "-e", str(path / "first")], port):
        yield port


@asynccontextmanager
async def haproxy(
    both: tuple[Service, Service], path: Path, *changes: tuple[str, str]
) -> AsyncGenerator[int]:
    port = free_port()
    text = changed(aimed((DEPLOY / "haproxy.cfg").read_text(), port, both), changes)
    config = path / "haproxy.cfg"
    config.write_text("global\n    maxconn 1000\n" + text.replace("inter 1s", "inter 100ms"))
    async with running([program("haproxy"), "-db", "-f", str(config)], port):
        # It takes servers for ready until so many checks have failed.
        await until(lambda: all(one.checks > _FALL for one in both))
        yield port


def changed(text: str, changes: tuple[tuple[str, str], ...]) -> str:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def running(command: list[str], port: int) -> AsyncGenerator[None]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        with anyio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    assert process.returncode is None, await process.stderr.read()  # type: ignore[union-attr]  # it is a pipe
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    break
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def chat(port: int) -> str:
    """A WebSocket client: what it is answered, or told instead."""
    try:
        url = f"ws://127.0.0.1:{port}/chat"
        async with websockets.connect(url, proxy=None, open_timeout=PATIENCE_SECONDS) as client:
            await client.send("ping")
            return str(await client.recv())
    except InvalidStatus as error:
        response = error.response
        return told(response.status_code, response.headers.get("Retry-After"))


async def get(port: int, path: str = "/", *, body: bytes = b"") -> str:
    """An HTTP client: what it is answered, or told instead."""
    # Each would load the certificates of the system, which takes most of its time, for no TLS.
    async with httpx.AsyncClient(
        trust_env=False, timeout=PATIENCE_SECONDS, verify=NO_CERTIFICATES
    ) as client:
        response = await client.request(
            "POST" if body else "GET", f"http://127.0.0.1:{port}{path}", content=body
        )
    if response.status_code == 200:
        return "pong" if response.content == body else response.text
    return told(response.status_code, response.headers.get("Retry-After"))


def told(status: int, retry_after: str | None) -> str:
    return f"{status}" if retry_after is None else f"{status}, come back"


def early(port: int, many: int = 20) -> list["asyncio.Task[str]"]:
    """As many WebSockets, half as many requests, and a few with a body."""
    clients = [asyncio.create_task(chat(port)) for _ in range(many)]
    clients += [asyncio.create_task(get(port)) for _ in range(many // 2)]
    clients += [asyncio.create_task(get(port, body=b"x" * 100_000)) for _ in range(many // 4)]
    return clients


def held(both: tuple[Service, Service]) -> int:
    return sum(one.gate.counts.held for one in both)


PROXIES = [nginx, haproxy]


@pytest.mark.parametrize("proxy", PROXIES)
async def test_with_the_settings_of_the_guide_early_clients_are_held_and_served(
    proxy: Any,  # one of two context managers
    tmp_path: Path,
) -> None:
    async with services() as both, proxy(both, tmp_path) as port:
        clients = early(port)
        await until(lambda: held(both) == len(clients))
        for one in both:
            one.startup.make_ready()
        assert Counter(await asyncio.gather(*clients)) == {"pong": len(clients)}
        assert await chat(port) == "pong"


@pytest.mark.parametrize("proxy", PROXIES)
async def test_with_the_settings_of_the_guide_a_refusal_gets_through(
    proxy: Any,
    tmp_path: Path,
) -> None:
    async with services(hold_seconds=0.1) as both, proxy(both, tmp_path) as port:
        clients = early(port)
        assert Counter(await asyncio.gather(*clients)) == {"503, come back": len(clients)}
        assert held(both) == len(clients)  # each was held once
        for one in both:
            one.startup.make_ready()
        await until(lambda: all(one.startup.ready for one in both))
        assert [await chat(port), await get(port)] == ["pong", "pong"]


@pytest.mark.usefixtures("has_haproxy")
async def test_haproxy_sends_clients_to_whoever_is_ready(tmp_path: Path) -> None:
    async with services(hold_seconds=0.5) as both, haproxy(both, tmp_path) as port:
        both[1].startup.make_ready()
        while both[1].gate.counts.admitted == 0:  # until its check has seen it
            await get(port, body=b"x")
        before = held(both)
        assert Counter(await asyncio.gather(*early(port))) == {"pong": 35}
        assert held(both) == before


@pytest.mark.parametrize(
    ("proxy", "change"),
    [
        (nginx, ("proxy_read_timeout 75s", "proxy_read_timeout 1s")),
        (haproxy, ("timeout server 30s", "timeout server 1s")),
    ],
)
async def test_a_time_out_below_the_hold_turns_away_all_who_are_held(
    proxy: Any,
    change: tuple[str, str],
    tmp_path: Path,
) -> None:
    async with services(hold_seconds=5.0) as both, proxy(both, tmp_path, change) as port:
        answers = Counter(await asyncio.gather(*early(port)))
        # 502 is nginx again, which has taken both servers for failed by then.
        assert answers.keys() <= {"504", "502"}
        assert answers["504"]
        await until(lambda: all(one.gate.counts.left for one in both))  # the gates notice


@pytest.mark.usefixtures("has_nginx")
async def test_nginx_with_http_503_takes_services_that_start_for_failed(tmp_path: Path) -> None:
    change = ("proxy_next_upstream error timeout;", "proxy_next_upstream error timeout http_503;")
    async with services(hold_seconds=0.1) as both, nginx(both, tmp_path, change) as port:
        assert await chat(port) == "503, come back"
        assert held(both) == 2  # the one client
        answers = Counter(await asyncio.gather(*early(port)))
        assert answers.keys() <= {"502", "503, come back"}
        assert answers["502"]


@pytest.mark.usefixtures("has_nginx")
async def test_nginx_with_http_503_and_without_max_fails_holds_twice(tmp_path: Path) -> None:
    changes = [
        ("proxy_next_upstream error timeout;", "proxy_next_upstream error timeout http_503;"),
        ("    keepalive", "    # keepalive"),
    ]
    async with services(hold_seconds=0.1) as both:
        changes += [
            (f"127.0.0.1:{one.port};", f"127.0.0.1:{one.port} max_fails=0;") for one in both
        ]
        async with nginx(both, tmp_path, *changes) as port:
            assert [await chat(port) for _ in range(3)] == ["503, come back"] * 3
            assert held(both) == 6


@pytest.mark.usefixtures("has_haproxy")
async def test_haproxy_with_retry_on_503_holds_a_client_again_and_again(tmp_path: Path) -> None:
    change = ("retries 3", "retries 3\n    retry-on 503 conn-failure")
    async with services(hold_seconds=0.1) as both, haproxy(both, tmp_path, change) as port:
        assert await get(port) == "503, come back"
        assert held(both) == 4


@pytest.mark.usefixtures("has_haproxy")
async def test_haproxy_with_one_check_on_readyz_refuses_by_itself(tmp_path: Path) -> None:
    change = ("default_backend starting", "default_backend ready")
    async with services() as both, haproxy(both, tmp_path, change) as port:
        while (answer := await asyncio.wait_for(get(port, "/livez"), PATIENCE_SECONDS)) != "503":
            assert "pass" in answer  # its checks have not failed yet
        before = held(both)
        clients = early(port)
        assert Counter(await asyncio.gather(*clients)) == {"503": len(clients)}
        assert held(both) == before


async def test_held_clients_count_for_the_limit_of_uvicorn_and_fail_its_health_checks() -> None:
    async with services(limit_concurrency=10) as (one, _):
        clients = [asyncio.create_task(chat(one.port)) for _ in range(12)]
        await until(lambda: one.gate.held == 12)
        assert [await get(one.port, path) for path in ("/livez", "/readyz", "/")] == ["503"] * 3
        one.startup.make_ready()
        assert Counter(await asyncio.gather(*clients)) == {"pong": 12}
    async with services(limit_concurrency=40) as (one, _):
        clients = [asyncio.create_task(chat(one.port)) for _ in range(12)]
        await until(lambda: one.gate.held == 12)
        assert "pass" in await get(one.port, "/livez")
        one.startup.make_ready()
        assert Counter(await asyncio.gather(*clients)) == {"pong": 12}
