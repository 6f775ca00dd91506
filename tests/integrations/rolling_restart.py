"""Two instances behind nginx, restarted one after the other, with the gate or without it.

`python -m tests.integrations.rolling_restart` prints the table of `docs/how-to/shutdown.md`: both
rows have equally many clients, requests a second, and seconds.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import websockets

from tests.redis_server import free_port

ROOT = Path(__file__).parents[2]
REQUESTS_PER_SECOND = 20
PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 1.0
SERVICE = """
import asyncio, contextlib, os
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from orchestrator import Orchestrator, Policy
from orchestrator.asgi import ReadinessGate
from orchestrator.testing import ScriptedProbe

async def get(request):
    await asyncio.sleep(0.05)
    return PlainTextResponse("served")

async def chat(websocket):
    await websocket.accept()
    async for _ in websocket.iter_text():
        pass

routes = [Route("/", get), Route("/readyz", get), WebSocketRoute("/chat", chat)]
app = Starlette(routes=routes)
if os.environ["GATE"] == "yes":
    policy = Policy(
        grace_seconds=0.0,
        drain_announce_seconds=3.0,
        drain_close_seconds=5.0,
        drain_limit_seconds=15.0,
    )
    startup = Orchestrator(ScriptedProbe(), policy=policy)
    app = ReadinessGate(app, startup, manage_lifespan=True, health=True)
"""

NGINX = """
daemon off; pid {path}/pid; error_log {path}/error.log; worker_processes 1;
events {{ worker_connections 8000; }}
http {{
    access_log off;
    client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;
    uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;
    upstream service {{ {servers} keepalive 16; }}
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://service; proxy_http_version 1.1; proxy_read_timeout 75s;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


@dataclass
class Seen:
    """What clients saw.

    Attributes:
        answers: How many requests ended with each status, or error.
        closes: How many WebSockets were closed with each code.
        away_seconds: How long each client was without a WebSocket.
        closed_at: When each WebSocket was closed, in monotonic seconds.
    """

    answers: Counter[str] = field(default_factory=Counter)
    closes: Counter[int] = field(default_factory=Counter)
    away_seconds: list[float] = field(default_factory=list)
    closed_at: list[float] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """How many requests were not served."""
        return self.answers.total() - self.answers["200"]

    def most_closed_within(self, seconds: float) -> int:
        """How many WebSockets were closed in the busiest so many seconds."""
        return max(
            sum(begin <= at < begin + seconds for at in self.closed_at) for begin in self.closed_at
        )

    def row(self) -> str:
        """As a row of the table."""
        median, longest = statistics.median(self.away_seconds), max(self.away_seconds)
        closes = ", ".join(f"{number:,} with {code}" for code, number in self.closes.items())
        requests = f"{self.failed} of {self.answers.total()}"
        return f"{requests} | {closes} | {median:.2g} s, {longest:.2g} s"


class Rehearsal:
    """One rolling restart.

    Args:
        path: A directory of its own.
        nginx: The program.
        gate: Whether the instances have a gate.
    """

    def __init__(self, path: Path, nginx: str, *, gate: bool) -> None:
        self._path, self._nginx = path, nginx
        self._environ = {**os.environ, "PYTHONPATH": str(ROOT), "GATE": "yes" if gate else "no"}
        self._port, self._ports = free_port(), [free_port(), free_port()]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._in_rotation: list[int] = []
        self.seen = Seen()
        (path / "rolling.py").write_text(SERVICE)

    async def run(self, clients: int, seconds: float) -> Seen:
        """Restart both while clients are there; requests come for so many seconds."""
        tasks: list[asyncio.Task[None]] = []
        proxy = None
        try:
            for port in self._ports:
                self._start(port)
            await self._until(self._ready)
            self._route(self._ports)
            command = [self._nginx, "-c", str(self._path / "nginx.conf")]
            proxy = subprocess.Popen([*command, "-e", str(self._path / "first")])
            opened = [asyncio.Event() for _ in range(clients)]
            tasks = [asyncio.create_task(self._chat(one)) for one in opened]
            await asyncio.gather(*(one.wait() for one in opened))
            looking = asyncio.create_task(self._keep_routing(proxy))
            tasks.append(looking)
            asking = asyncio.create_task(self._ask(seconds))
            for port in self._ports:
                self._processes[port].terminate()
                await asyncio.to_thread(self._processes[port].wait, PATIENCE_SECONDS)
                self._start(port)
                await self._until(self._ready)
                await asyncio.sleep(2 * _LOOK_SECONDS)  # until nginx knows, too
            await asking
        finally:
            for task in tasks:
                task.cancel()
            for process in (*self._processes.values(), *filter(None, [proxy])):
                process.kill()
                process.wait()
        return self.seen

    def _start(self, port: int) -> None:
        options = ["--port", str(port), "--log-level", "error", "rolling:app"]
        self._processes[port] = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "uvicorn", *options],
            cwd=self._path,
            env=self._environ,
        )

    async def _ready(self) -> bool:
        return len(await self._look()) == len(self._ports)

    async def _look(self) -> list[int]:
        found = []
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            for port in self._ports:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get(f"http://127.0.0.1:{port}/readyz")).is_success:
                        found.append(port)
        return found

    async def _until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await holds():
                await asyncio.sleep(0.05)

    def _route(self, ports: list[int]) -> None:
        self._in_rotation = ports
        servers = " ".join(f"server 127.0.0.1:{one} max_fails=0;" for one in ports or self._ports)
        text = NGINX.format(path=self._path, port=self._port, servers=servers)
        (self._path / "nginx.conf").write_text(text)

    async def _keep_routing(self, proxy: subprocess.Popen[bytes]) -> None:
        """As an ingress controller: ask once a second, and reload nginx after a change."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            found = await self._look()
            if found != self._in_rotation:
                self._route(found)
                proxy.send_signal(signal.SIGHUP)

    async def _ask(self, seconds: float) -> None:
        clients = httpx.AsyncClient(trust_env=False, timeout=30)
        async with clients as client, asyncio.TaskGroup() as tasks:
            began_at = time.monotonic()
            for number in range(int(seconds * REQUESTS_PER_SECOND)):
                await asyncio.sleep(began_at + number / REQUESTS_PER_SECOND - time.monotonic())
                tasks.create_task(self._get(client))

    async def _get(self, client: httpx.AsyncClient) -> None:
        try:
            answer = str((await client.get(f"http://127.0.0.1:{self._port}/")).status_code)
        except httpx.TransportError as error:
            answer = type(error).__name__
        self.seen.answers[answer] += 1

    async def _chat(self, opened: asyncio.Event) -> None:
        """Stay connected: come back at once, and then with a pause that doubles, up to 5 s."""
        closed_at, pause = None, 0.25
        while True:
            try:
                url = f"ws://127.0.0.1:{self._port}/chat"
                async with websockets.connect(url, proxy=None, open_timeout=30) as client:
                    if closed_at is not None:
                        self.seen.away_seconds.append(time.monotonic() - closed_at)
                    opened.set()
                    pause = 0.25
                    with contextlib.suppress(websockets.ConnectionClosed):
                        await client.wait_closed()
                    self.seen.closes[client.close_code or 1006] += 1
                    closed_at = time.monotonic()
                    self.seen.closed_at.append(closed_at)
            except (OSError, websockets.InvalidHandshake, TimeoutError):
                await asyncio.sleep(pause)
                pause = min(5.0, pause * 2)


def main(nginx: str, clients: int = 1000, seconds: float = 40.0) -> Mapping[str, Seen]:
    """Rehearse both, and print what was seen."""
    rows = {}
    for name, gate in (("with the gate", True), ("uvicorn alone", False)):
        with tempfile.TemporaryDirectory() as path:
            run = Rehearsal(Path(path), nginx, gate=gate)
            rows[name] = asyncio.run(run.run(clients, seconds))
        sys.stdout.write(f"| {name} | {rows[name].row()} |\n")
        sys.stdout.flush()
    return rows


if __name__ == "__main__":
    main(shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or "nginx")
