"""What the tests of gate and health share: a scripted start-up, a caller and a real server."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import uvicorn

from orchestrator import Orchestrator, Policy
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ManualClock, ScriptedProbe

_PATIENCE_SECONDS = 30.0
"""How long something may take that happens on a busy machine."""

NO_DRAIN = Policy(drain_close_seconds=0.0, drain_limit_seconds=0.0)
"""With it, nobody wants to close an open WebSocket."""

CONNECT: Message = {"type": "websocket.connect"}
LEAVE: Message = {"type": "websocket.disconnect", "code": 1006}
EMPTY: Message = {"type": "http.request", "body": b"", "more_body": False}
HANG_UP: Message = {"type": "http.disconnect"}


class Startup(Orchestrator):
    """An orchestrator that stays in `grace` until told otherwise."""

    def __init__(
        self,
        clock: ManualClock | None = None,
        *,
        enabled: bool = True,
        policy: Policy | None = None,
    ) -> None:
        self.probe = ScriptedProbe()
        options: dict[str, Any] = {"clock": clock, "enabled": enabled, "policy": policy}
        super().__init__(self.probe, conditions=["listener"], **options)

    def make_ready(self) -> None:
        self.probe.then(None)
        self.condition("listener").set(True)

    def lose(self) -> None:
        """From ready to degraded."""
        self.condition("listener").set(False)


class Refused(Orchestrator):
    """An orchestrator that stays in `probing_redis`, or goes to `degraded` if `permanent`."""

    def __init__(self, clock: ManualClock | None = None, *, permanent: bool = False) -> None:
        self.probe = ScriptedProbe([WRONG_PASSWORD if permanent else REFUSED])
        super().__init__(self.probe, clock=clock)


def websocket_scope(path: str = "/ws", *, denial: bool = True) -> Scope:
    extensions: dict[str, Any] = {"websocket.http.response": {}} if denial else {}
    return {"type": "websocket", "path": path, "headers": [], "extensions": extensions}


def http_scope(path: str = "/", method: str = "GET", root_path: str = "") -> Scope:
    return {
        "type": "http",
        "path": path,
        "root_path": root_path,
        "method": method,
        "headers": [],
    }


@dataclass
class Caller:
    """One request, made by a test directly on an ASGI application."""

    app: ASGIApp
    scope: Scope
    sent: list[Message] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        first = CONNECT if self.scope["type"] == "websocket" else EMPTY
        self._inbox: deque[Message] = deque([first])
        self._arrived = anyio.Event()
        self.done = anyio.Event()

    def give(self, *messages: Message) -> None:
        """The client sends these after what it sent before."""
        self._inbox.extend(messages)
        self._arrived.set()

    def give_only(self, *messages: Message) -> None:
        """The client sends these and nothing else."""
        self._inbox.clear()
        self.give(*messages)

    @property
    def unread(self) -> int:
        return len(self._inbox)

    async def receive(self) -> Message:
        while not self._inbox:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        return self._inbox.popleft()

    async def send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent.append(message)

    async def run(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.send)
        except Exception as error:  # the server's part: the test judges it
            self.error = error
        finally:
            self.done.set()

    @property
    def status(self) -> int | None:
        """The status of the response or of the denial."""
        return self.sent[0].get("status") if self.sent else None

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


class App:
    """Accepts WebSockets, echoes bodies, and remembers what it was called with."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await expect(receive, "websocket.connect")
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                await send({"type": "websocket.send", "text": "pong"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


async def expect(receive: Receive, kind: str) -> None:
    message = await receive()
    assert message["type"] == kind, message


async def settled() -> None:
    """Everything that can run has run."""
    for _ in range(50):
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()


async def until(what: Callable[[], bool]) -> None:
    """Wait for something that has no event of its own."""
    with anyio.fail_after(_PATIENCE_SECONDS):
        while not what():  # what is asked has no event, as the line above says
            await anyio.sleep(0.002)


class Server(uvicorn.Server):
    """A uvicorn that tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[Any] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @property
    def port(self) -> int:
        return int(self.servers[0].sockets[0].getsockname()[1])


@asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncGenerator[int]:  # uvicorn's own types
    """A real uvicorn around `app`; yields its port."""
    defaults: dict[str, Any] = {"port": 0, "backlog": 4096, "lifespan": "on"}
    # Without a configuration of its own it logs to where tests can look.
    defaults |= {"log_config": None, "log_level": "warning"}
    server = Server(uvicorn.Config(app, **(defaults | options)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        with anyio.fail_after(_PATIENCE_SECONDS):
            await server.up.wait()
        try:
            yield server.port
        finally:
            server.should_exit = True
