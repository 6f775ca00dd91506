"""Applications that are started again and again, or not at all, as in their test suites."""

import logging
import warnings
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import httpx
import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

from orchestrator import Orchestrator, Policy, Stage
from orchestrator.asgi import ReadinessGate, health_app, health_paths, lifespan
from orchestrator.testing import REFUSED, Pretence, ScriptedProbe
from orchestrator.web import web_app, web_paths

with warnings.catch_warnings():  # newer versions would rather have another client
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient, WebSocketDenialResponse

Pretend = Callable[[Orchestrator, Stage | str], Pretence]


def an_application(
    startup: Orchestrator, *, lifespans: bool = True, manage: bool = False
) -> FastAPI:
    app = FastAPI(lifespan=lifespan(startup) if lifespans else None)
    passing = [*health_paths(), *web_paths()]
    app.add_middleware(
        ReadinessGate, startup=startup, manage_lifespan=manage, hold_seconds=20, bypass=passing
    )
    app.mount("/health", health_app(startup))
    app.mount("/startup", web_app(startup))

    @app.get("/")
    async def index() -> str:
        return startup.stage

    @app.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(startup.stage)
        await socket.close()

    return app


def quick(*, enabled: bool = True, fails: bool = False) -> Orchestrator:
    probe = ScriptedProbe([REFUSED if fails else None])
    return Orchestrator(probe, policy=Policy(grace_seconds=0.0), enabled=enabled)


def asks(client: TestClient) -> str:
    answer = client.get("/")
    assert answer.status_code == 200, answer.text
    with client.websocket_connect("/ws") as socket:
        assert socket.receive_text() == answer.json()
    return str(answer.json())


# -- started again -------------------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("manage", [True, False])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_application_is_entered_by_many_clients(
    backend: Literal["asyncio", "trio"], manage: bool, enabled: bool
) -> None:
    startup = quick(enabled=enabled)
    app = an_application(startup, lifespans=not manage, manage=manage)
    for _ in range(3):
        with TestClient(app, backend=backend) as client:
            assert asks(client) == Stage.READY
            assert client.get("/health/readyz").status_code == 200
            state = client.get("/startup/state").json()
            assert state["sequence"] == 3
        assert not startup.running


def test_degraded_in_one_start_up_and_ready_in_the_next() -> None:
    probe = ScriptedProbe("wrong-password")
    startup = Orchestrator(probe, policy=Policy(grace_seconds=0.0))
    app = an_application(startup)
    for script, status in [("wrong-password", 503), ("ok", 200), ("wrong-password", 503)]:
        probe.then(script)
        with TestClient(app) as client:
            assert client.portal is not None
            wanted = Stage.READY if status == 200 else Stage.DEGRADED
            client.portal.call(startup.wait_for, wanted)
            assert client.get("/").status_code == status


# -- not started ---------------------------------------------------------------------------------


def test_a_client_without_with_is_told_at_once_what_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    startup = quick()
    client = TestClient(an_application(startup))
    for _ in range(2):
        answer = client.get("/")
        assert answer.status_code == 503
        assert "with TestClient(app)" in answer.json()["detail"]
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            client.websocket_connect("/ws"),
        ):
            raise AssertionError("it was let in")
        assert refused.value.status_code == 503
        assert client.get("/health/readyz").status_code == 503
        with client:  # after an entered one it is the same again
            asks(client)
    assert caplog.text.count("manage_lifespan=True") == 1


def test_the_reason_fits_into_a_close() -> None:
    app = ReadinessGate(FastAPI(), quick(), accept_then_close=True)
    with (
        TestClient(app).websocket_connect("/ws") as socket,
        pytest.raises(WebSocketDisconnect) as closed,
    ):
        socket.receive_text()
    assert closed.value.code == 1013
    assert "never began" in closed.value.reason
    assert len(closed.value.reason.encode()) <= 123


@pytest.mark.anyio
async def test_asgi_transport_is_told_the_same() -> None:
    startup = quick()
    transport = httpx.ASGITransport(an_application(startup))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert "never began" in (await client.get("/")).json()["detail"]
        async with startup:
            assert (await client.get("/")).json() == Stage.READY


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_gate_that_manages_the_lifespan_starts_with_each_request_that_needs_it(
    backend: Literal["asyncio", "trio"],
) -> None:
    startup = quick()
    client = TestClient(an_application(startup, lifespans=False, manage=True), backend=backend)
    for _ in range(3):
        assert asks(client) == Stage.READY


@pytest.mark.parametrize("entered", [False, True])
def test_a_pretended_stage_holds_with_and_without_a_start(
    entered: bool, pretend_stage: Pretend
) -> None:
    startup = quick(fails=True)
    app = an_application(startup)
    client = TestClient(app)
    for stage, status in [(Stage.READY, 200), (Stage.DEGRADED, 503), (Stage.READY, 200)]:
        pretend_stage(startup, stage)
        if entered:
            with client:
                assert client.portal is not None
                client.portal.call(startup.wait_for, stage)
                assert client.get("/").status_code == status
        else:
            assert startup.stage is startup.explain().stage is stage
            assert client.get("/").status_code == status
            assert client.get("/health/readyz").status_code == status
            assert client.get("/startup/state").json()["stage"] == stage


def test_what_was_pretended_is_given_back_in_the_right_order(pretend_stage: Pretend) -> None:
    startup = quick()
    before = vars(startup).copy()
    pretences = [pretend_stage(startup, stage) for stage in ("ready", "degraded", "probing_redis")]
    for pretence in reversed(pretences):
        pretence.undo()
    assert vars(startup) == before


# -- functions that a framework drops ------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of on_event itself
@pytest.mark.parametrize("event", ["startup", "shutdown"])
def test_functions_that_fastapi_drops_are_named(
    event: str, caplog: pytest.LogCaptureFixture
) -> None:
    startup, called = quick(), []
    app = an_application(startup)
    router = APIRouter()

    @app.on_event(event)
    async def connect_the_database() -> None:
        called.append("the database")

    @app.on_event(event)
    def warm_the_cache() -> None:
        called.append("the cache")

    @router.on_event(event)
    def of_a_router() -> None:
        called.append("the router")

    app.include_router(router)
    with caplog.at_level(logging.WARNING), TestClient(app):
        pass
    named = [line for line in caplog.messages if f'on_event("{event}")' in line]
    if called:  # FastAPI calls those of a router that is included
        assert called == ["the router"]
        assert "of_a_router" not in named[0]
    assert "connect_the_database, warm_the_cache" in named[0]
    assert "lifespan=lifespan(startup, inner)" in named[0]


def test_without_such_functions_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def inner(_: FastAPI) -> AsyncGenerator[None]:
        yield

    startup = quick()
    with TestClient(FastAPI(lifespan=lifespan(startup, inner))):
        pass
    assert "on_event" not in caplog.text
