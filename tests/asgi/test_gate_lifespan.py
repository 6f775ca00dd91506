"""The orchestrator runs exactly as long as the application, in each of the ways to set it up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

import anyio
import pytest

from orchestrator import AlreadyStarted, Stage
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate, lifespan
from tests.asgi.gate_support import App, Caller, Startup, http_scope, until

pytestmark = pytest.mark.anyio

STARTED: Message = {"type": "lifespan.startup.complete"}
STOPPED: Message = {"type": "lifespan.shutdown.complete"}


class Server:
    """The server's side of the lifespan protocol."""

    def __init__(self, gate: ReadinessGate) -> None:
        self.gate = gate
        self.scope: Scope = {"type": "lifespan", "state": {}}
        self.sent: list[Message] = []
        self.started = anyio.Event()
        self.stop = anyio.Event()
        self.running_at: list[bool] = []
        self.startup: Startup | None = None
        self._asked = 0

    async def receive(self) -> Message:
        self._asked += 1
        if self._asked == 1:
            return {"type": "lifespan.startup"}
        assert self._asked == 2, "asked again after the shutdown"
        await self.stop.wait()
        return {"type": "lifespan.shutdown"}

    async def send(self, message: Message) -> None:
        assert message["type"].startswith("lifespan."), message
        self.sent.append(message)
        self.running_at.append(self.startup is not None and self.startup.running)
        self.started.set()

    async def run(self) -> None:
        await self.gate(self.scope, self.receive, self.send)

    async def start_and_stop(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.run)
            await self.started.wait()
            self.stop.set()


def server_of(app: ASGIApp, startup: Startup | None = None) -> tuple[Server, Startup]:
    startup = startup or Startup()
    server = Server(ReadinessGate(app, startup, manage_lifespan=True))
    server.startup = startup
    return server, startup


async def raises(scope: Scope, _: Receive, __: Send) -> None:
    assert scope["type"] == "http"


async def returns(_: Scope, __: Receive, ___: Send) -> None:
    pass


async def takes_part(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(STARTED)
    await receive()
    await send(STOPPED)


async def returns_early(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(STARTED)


@pytest.mark.parametrize("app", [raises, returns, takes_part, returns_early, App()])
async def test_the_orchestrator_runs_from_start_up_to_shutdown(app: ASGIApp) -> None:
    server, startup = server_of(app)
    await server.start_and_stop()
    assert server.sent == [STARTED, STOPPED]
    assert server.running_at == [True, False]  # left before the server is told
    assert server.scope["state"]["startup"] is startup


async def test_start_up_returns_before_ready() -> None:
    server, startup = server_of(takes_part)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run)
        await server.started.wait()
        assert startup.stage in (Stage.PROBING_REDIS, Stage.GRACE)
        server.stop.set()


async def test_a_failed_start_up_of_the_application_is_passed_on() -> None:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no disk"})
        raise RuntimeError("no disk")

    server, _ = server_of(app)
    with pytest.raises(RuntimeError, match="no disk"):
        await server.run()
    assert server.sent == [{"type": "lifespan.startup.failed", "message": "no disk"}]
    assert server.running_at == [False]


async def test_a_failed_shutdown_of_the_application_is_passed_on() -> None:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(STARTED)
        await receive()
        raise RuntimeError("a secret")

    server, _ = server_of(app)
    server.stop.set()
    with pytest.raises(RuntimeError):
        await server.run()
    assert [message["type"] for message in server.sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.failed",
    ]
    assert "secret" not in server.sent[1]["message"]


async def test_an_orchestrator_that_cannot_start_fails_the_start_up() -> None:
    startup = Startup()
    server, _ = server_of(takes_part, startup)
    async with startup:
        with pytest.raises(AlreadyStarted, match="in two places"):
            await server.run()
        assert startup.running
    assert [message["type"] for message in server.sent] == ["lifespan.startup.failed"]
    assert "in two places" in server.sent[0]["message"]


async def test_without_manage_lifespan_it_is_the_application_s() -> None:
    startup = Startup()
    server = Server(ReadinessGate(takes_part, startup))
    server.startup = startup
    await server.start_and_stop()
    assert server.sent == [STARTED, STOPPED]
    assert server.running_at == [False, False]


async def test_lifespan_enters_and_returns_at_once() -> None:
    startup = Startup()
    async with lifespan(startup)("the application") as state:
        assert state == {"startup": startup}
        assert startup.running
        assert startup.stage is not Stage.READY
    assert not startup.running


async def test_lifespan_around_the_application_s_own() -> None:
    startup, seen = Startup(), list[object]()

    @asynccontextmanager
    async def inner(app: str) -> AsyncIterator[dict[str, object]]:
        seen.append(app)
        startup.condition("listener").set(True)  # works: it runs inside
        yield {"pool": 1}
        seen.append(startup.running)

    async with lifespan(startup, inner=inner)("the application") as state:
        assert state == {"pool": 1, "startup": startup}
        await startup.wait_for(Stage.READY)
    assert seen == ["the application", True]


async def test_lifespan_with_one_that_yields_nothing() -> None:
    @asynccontextmanager
    async def inner(_: object) -> AsyncIterator[None]:
        yield

    startup = Startup()
    async with lifespan(startup, inner)("the application") as state:
        assert state == {"startup": startup}


async def test_an_orchestrator_in_the_lifespan_s_state_costs_no_copy() -> None:
    startup, app = Startup(), App()
    async with startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        caller = Caller(ReadinessGate(app, startup, admit_degraded=True), http_scope())
        caller.scope["state"] = {"startup": startup}
        await caller.run()
        assert app.scopes == [caller.scope]
        assert app.scopes[0] is caller.scope


async def test_a_first_request_that_gives_up_leaves_the_start_up_alone() -> None:
    """On a server without a lifespan, which cancels what a client has given up in its own way."""
    startup = Startup()
    gate = ReadinessGate(App(), startup, manage_lifespan=True)

    async def give_up() -> None:
        if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
            task = asyncio.create_task(Caller(gate, http_scope()).run())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        else:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await Caller(gate, http_scope()).run()

    await give_up()
    callers = [Caller(gate, http_scope()) for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        for caller in callers:
            tasks.start_soon(caller.run)
        await until(lambda: gate.held == 2)
        startup.make_ready()
    assert [caller.status for caller in callers] == [200, 200]
    await startup.aclose()


async def test_a_start_up_that_fails_with_the_first_request_refuses_all() -> None:
    class Broken(Startup):
        async def start(self) -> Self:
            await super().start()
            await self.aclose()
            raise RuntimeError("a secret")

    gate = ReadinessGate(App(), Broken(), manage_lifespan=True)
    for _ in range(2):
        caller = Caller(gate, http_scope())
        await caller.run()
        assert caller.status == 503
