"""Every stage, every endpoint, every option: the table of the health endpoints."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from orchestrator import Orchestrator, Policy, Stage
from orchestrator._gate.health_verdict import HealthRules, verdict_on
from orchestrator._http.asgi_types import ASGIApp
from orchestrator._http.health_paths import HEALTH_PATHS
from orchestrator.asgi import health_app
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ManualClock, ScriptedProbe
from tests.asgi.gate_support import Caller, http_scope, settled, websocket_scope

pytestmark = pytest.mark.anyio

SITUATIONS = [
    "booting",
    "probing_redis",
    "grace",
    "ready",
    "degraded before ready",
    "degraded after ready",
    "grace after degraded before ready",
    "grace after degraded after ready",
]


@asynccontextmanager
async def a_service(situation: str) -> AsyncGenerator[Orchestrator]:
    """An orchestrator that was brought into this situation, with time standing still."""
    clock = ManualClock()
    early = "before ready" in situation
    first = WRONG_PASSWORD if early else REFUSED if situation == "probing_redis" else None
    probe = ScriptedProbe([first])
    policy = Policy(grace_seconds=1.0)
    startup = Orchestrator(probe, conditions=["listener"], clock=clock, policy=policy)
    if situation == "booting":
        yield startup
        return
    async with startup:
        await settled()
        if "ready" in situation and not early:
            startup.condition("listener").set(True)
            await clock.advance(2.0)
        if "after ready" in situation:
            startup.condition("listener").set(False, reason="it fell")
            await settled()
        if "grace after" in situation:
            probe.then(None)
            startup.condition("listener").set(True)
            await clock.advance(0.1)
        assert startup.stage is Stage(situation.partition(" ")[0])
        assert startup.was_ready == (situation == "ready" or "after ready" in situation)
        yield startup


def expected(situation: str, path: str, *, admits: bool, drains: bool) -> tuple[int, str]:
    """The table, written down a second time."""
    if path == "/livez" or situation == "ready":
        return 200, "pass"
    in_startup = situation in ("booting", "probing_redis", "grace")
    if path == "/startupz":
        return (503, "fail") if in_startup else (200, "pass")
    if in_startup:
        return 503, "fail"
    if "before ready" in situation:
        return (200, "warn") if admits else (503, "fail")
    return (503, "fail") if drains else (200, "warn")


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_without_options_the_rules_are_the_strict_ones(situation: str) -> None:
    """They have defaults of their own, besides those of `health_app`."""
    async with a_service(situation) as startup:
        for path in HEALTH_PATHS:
            verdict = verdict_on(path, startup, HealthRules())
            assert verdict == expected(situation, path, admits=False, drains=False)[1]


async def ask(app: ASGIApp, path: str, method: str = "GET", root_path: str = "") -> Caller:
    caller = Caller(app, http_scope(path, method, root_path))
    await caller.run()
    assert caller.error is None
    return caller


@pytest.mark.parametrize("drains", [False, True], ids=["warns", "drains"])
@pytest.mark.parametrize("admits", [False, True], ids=["refuses", "admits"])
@pytest.mark.parametrize("situation", SITUATIONS)
async def test_the_table(situation: str, admits: bool, drains: bool) -> None:
    async with a_service(situation) as startup:
        app = health_app(startup, admit_degraded=admits, drain_when_degraded=drains)
        for path in ("/livez", "/readyz", "/startupz"):
            caller = await ask(app, path)
            body = json.loads(caller.body)
            status = expected(situation, path, admits=admits, drains=drains)
            assert (caller.status, body["status"]) == status, path
            assert body == {"status": body["status"], "stage": startup.stage}
            assert caller.headers["content-type"] == "application/health+json"
            assert caller.headers["cache-control"] == "no-store"
            assert ("retry-after" in caller.headers) == (caller.status == 503)


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_head_has_the_headers_of_get_and_no_body(situation: str) -> None:
    async with a_service(situation) as startup:
        app = health_app(startup)
        for path in ("/livez", "/readyz", "/startupz"):
            got, head = await ask(app, path), await ask(app, path, "HEAD")
            assert head.status == got.status
            assert head.headers["content-length"] == got.headers["content-length"]
            assert head.body == b""


async def test_details_only_where_asked() -> None:
    async with a_service("degraded after ready") as startup:
        body = json.loads((await ask(health_app(startup, details=True), "/readyz")).body)
        assert body["status"] == "warn"
        assert body["waits_for"] == ["condition listener (it fell)"]
        assert body["last_failure"] is None
        assert body["attempts"] >= 1
        assert body["conditions"]["listener"] == {
            "required": True,
            "satisfied": False,
            "reason": "it fell",
            "status": "fail",
        }
    async with a_service("degraded before ready") as startup:
        body = json.loads((await ask(health_app(startup, details=True), "/readyz")).body)
        assert body["last_failure"] == "the password is wrong"
        assert body["failures_in_row"] == 1


async def test_details_before_the_orchestrator_is_entered() -> None:
    async with a_service("booting") as startup:
        body = json.loads((await ask(health_app(startup, details=True), "/livez")).body)
        assert body["stage"] == "booting"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_not_allowed(method: str) -> None:
    async with a_service("ready") as startup:
        caller = await ask(health_app(startup), "/livez", method)
        assert caller.status == 405
        assert caller.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/health", "/livez/", "/readyz2"])
async def test_other_paths_are_not_found(path: str) -> None:
    async with a_service("ready") as startup:
        caller = await ask(health_app(startup), path)
        assert caller.status == 404
        assert caller.headers["content-type"] == "application/problem+json"
        assert json.loads(caller.body)["status"] == 404
        assert caller.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "root_path", "status"),
    [
        ("/api/livez", "/api", 200),
        ("/api/livez", "/api/", 200),
        ("/livez", "/api", 200),  # some proxies and servers strip the prefix
        ("/livez", "/live", 200),
        ("/api/livez", "", 404),
    ],
)
async def test_below_a_prefix(path: str, root_path: str, status: int) -> None:
    async with a_service("ready") as startup:
        assert (await ask(health_app(startup), path, root_path=root_path)).status == status


async def test_mounted_in_starlette() -> None:
    async with a_service("ready") as startup:
        app = Starlette(routes=[Mount("/health", health_app(startup))])
        assert (await ask(app, "/health/readyz")).status == 200
        assert (await ask(app, "/health/nothing")).status == 404


async def test_a_websocket_is_declined() -> None:
    async with a_service("ready") as startup:
        caller = Caller(health_app(startup), websocket_scope("/livez"))
        await caller.run()
        assert caller.sent == [{"type": "websocket.close"}]


async def test_alone_it_takes_part_in_the_lifespan() -> None:
    async with a_service("ready") as startup:
        caller = Caller(health_app(startup), {"type": "lifespan"})
        caller.give_only({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
        await caller.run()
        assert caller.sent == [
            {"type": "lifespan.startup.complete"},
            {"type": "lifespan.shutdown.complete"},
        ]


async def test_retry_after_must_make_sense() -> None:
    with pytest.raises(ValueError, match="retry_after_seconds"):
        health_app(Orchestrator(ScriptedProbe()), retry_after_seconds=(-1, 2))


async def test_an_http_client_understands_it() -> None:
    async with a_service("probing_redis") as startup:
        transport = httpx.ASGITransport(health_app(startup))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json() == {"status": "fail", "stage": "probing_redis"}
