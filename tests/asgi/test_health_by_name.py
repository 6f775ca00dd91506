"""Health of one condition by name, of all but some, and of those that are not required."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator import Check, ConditionSpec, Orchestrator, Policy, Stage
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator._http.health_paths import is_health_path, passes
from orchestrator.asgi import ReadinessGate, health_app, health_paths
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe
from tests.asgi.gate_support import Caller, http_scope, settled, websocket_scope

pytestmark = pytest.mark.anyio

NAMES = ("database", "café", "a/b c", "100%", "search")
OPTIONAL = "search"


@asynccontextmanager
async def a_service(*held: str, redis: bool = True, wait: float = 5.0) -> AsyncGenerator[Any]:
    """An orchestrator of which these conditions hold; its time moves only here."""
    clock = ManualClock()
    startup = Orchestrator(
        ScriptedProbe([None if redis else REFUSED]),
        conditions=[ConditionSpec(name, required=name != OPTIONAL) for name in NAMES],
        clock=clock,
        policy=Policy(grace_seconds=1.0, budget_seconds=60.0),
    )
    async with startup:
        for name in held:
            startup.condition(name).set(True)
        await clock.advance(wait)
        startup.clock = clock  # type: ignore[attr-defined]  # for the test
        yield startup


async def ask(
    app: ASGIApp, path: str, query: bytes = b"", *, raw: bytes = b"", method: str = "GET"
) -> tuple[int | None, dict[str, Any]]:
    scope = {**http_scope(path, method), "query_string": query}
    caller = Caller(app, {**scope, "raw_path": raw} if raw else scope)
    await caller.run()
    assert caller.error is None
    return caller.status, json.loads(caller.body or b"{}")


async def statuses(app: ASGIApp, *asked: tuple[str, bytes]) -> list[int | None]:
    return [(await ask(app, path, query))[0] for path, query in asked]


async def test_each_condition_has_an_answer_of_its_own() -> None:
    async with a_service("database", "café") as startup:
        app = health_app(startup)
        for name in NAMES:
            status, body = await ask(app, f"/readyz/{name}")
            holds = name in ("database", "café")
            assert (status, body["status"]) == ((200, "pass") if holds else (503, "fail")), name
            assert body == {"status": body["status"], "stage": "grace"}
        assert (await ask(app, "/readyz/redis"))[0] == 200
        assert (await ask(app, "/readyz/database", method="HEAD")) == (200, {})
        assert (await ask(app, "/readyz/database", method="POST"))[0] == 405
    assert (await ask(app, "/readyz/database"))[0] == 503, "it has ended"
    async with a_service(*NAMES, redis=False) as startup:
        asked = [("/readyz/redis", b""), ("/readyz/database", b"")]
        assert await statuses(health_app(startup), *asked) == [503, 200]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/readyz/nothing", b""),
        ("/readyz/<script>", b""),
        ("/readyz/database/", b""),
        ("/readyz/" + "x" * 9000, b""),
        ("/readyz/", b""),
        ("/livez/database", b""),
        ("/startupz/database", b""),
        ("/readyz", b"exclude=nothing"),
        ("/readyz", b"exclude=database&exclude=nothing"),
        ("/readyz", b"exclude="),
        ("/readyz", b"exclude=%ff%00"),
    ],
)
async def test_what_was_not_declared_is_not_found_and_not_repeated(path: str, query: bytes) -> None:
    async with a_service("database") as startup:
        status, body = await ask(health_app(startup, details=True), path, query)
        assert status == 404
        assert not {"nothing", "<script>", "xxxx"} & set(json.dumps(body).replace('"', " ").split())
        assert "database" not in json.dumps(body)


async def test_a_query_may_have_so_many_parameters_and_others_are_ignored() -> None:
    async with a_service(*NAMES) as startup:
        app = health_app(startup)
        asked = [("/readyz", b"&".join([b"exclude=database"] * 64)), ("/readyz", b"_=1&verbose")]
        assert await statuses(app, *asked) == [200, 200]
        assert await statuses(app, ("/readyz", b"x=1&" * 100)) == [400]
        assert await statuses(app, ("/livez", b"exclude=nothing")) == [200], "only /readyz takes it"


async def test_ready_but_for_what_is_left_out() -> None:
    rest = [name for name in NAMES if name not in ("database", "a/b c")]
    async with a_service(*rest) as startup:
        app = health_app(startup)
        both = b"exclude=database&exclude=a%2Fb+c"
        asked = [("/readyz", query) for query in (b"", b"exclude=database", both)]
        assert await statuses(app, *asked) == [503, 503, 200]
        status, body = await ask(app, "/readyz", both + b"&exclude=search")
        assert (status, body) == (200, {"status": "pass", "stage": "grace"})
    async with a_service(*NAMES, redis=False) as startup:
        app = health_app(startup)
        assert await statuses(app, ("/readyz", b"exclude=redis"), ("/readyz", b"")) == [200, 503]


async def test_leaving_something_out_does_not_shorten_the_grace() -> None:
    rest = [name for name in NAMES if name != "database"]
    async with a_service(*rest, wait=0.3) as startup:
        app = health_app(startup)
        assert startup.stage is Stage.GRACE
        assert await statuses(app, ("/readyz", b"exclude=database")) == [503]
        await startup.clock.advance(3.0)
        assert await statuses(app, ("/readyz", b"exclude=database")) == [200]


async def test_an_outage_of_what_is_left_out_is_none() -> None:
    async with a_service(*NAMES) as startup:
        app = health_app(startup, drain_when_degraded=True)
        startup.condition("database").set(False)
        await settled()
        assert startup.stage is Stage.DEGRADED
        asked = [("/readyz", b""), ("/readyz", b"exclude=database"), ("/readyz/database", b"")]
        assert await statuses(app, *asked) == [503, 200, 503]
        assert (await ask(app, "/readyz", b"exclude=database"))[1]["status"] == "pass"


async def test_one_that_is_not_required_warns_only() -> None:
    async with a_service(*NAMES[:-1]) as startup:
        app = health_app(startup, details=True)
        status, body = await ask(app, "/readyz")
        assert (status, body["status"], body["stage"]) == (200, "warn", "ready")
        assert body["conditions"][OPTIONAL]["status"] == "warn"
        assert body["conditions"]["database"]["status"] == "pass"
        for path, query in (("/readyz", b"exclude=search"), ("/livez", b""), ("/startupz", b"")):
            assert (await ask(app, path, query))[1]["status"] == "pass"
        assert (await ask(app, f"/readyz/{OPTIONAL}"))[0] == 503
        startup.condition(OPTIONAL).set(True)
        await settled()
        assert (await ask(app, "/readyz"))[1]["status"] == "pass"


async def test_where_it_is_disabled_all_pass() -> None:
    checks = [Check("database", ScriptedProbe([REFUSED])), ConditionSpec("x", required=False)]
    async with Orchestrator(ScriptedProbe(), conditions=checks, enabled=False) as startup:
        await startup.wait_for(Stage.READY)
        app = health_app(startup)
        for path in ("/readyz", "/readyz/database", "/readyz/x", "/readyz/redis"):
            assert (await ask(app, path))[1]["status"] == "pass"


async def _inside(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        message: Message = {"type": "http.response.start", "status": 299, "headers": []}
        await send(message)
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.mark.parametrize("redis", [True, False], ids=["ready", "starting"])
async def test_a_gate_answers_by_name_in_every_stage(redis: bool) -> None:
    async with a_service(*NAMES, redis=redis) as startup:
        app = ReadinessGate(_inside, startup, health=True, hold_seconds=0)
        asked = [f"/readyz/{name}" for name in ("database", "redis", "nothing")]
        assert [(await ask(app, path))[0] for path in asked] == [200, 200 if redis else 503, 404]
        assert (await ask(app, "/readyz", b"exclude=redis"))[0] == 200
        elsewhere = 299 if redis else 503
        for path in ("/rooms/readyz/database", "/livez/database", "/readyz/"):
            assert (await ask(app, path))[0] == elsewhere, path
        raw = b"/readyz%2Fdatabase"  # a room of this name
        assert (await ask(app, "/readyz/database", raw=raw))[0] in (299, elsewhere)


async def test_a_gate_lets_pass_what_asks_a_mounted_health_application() -> None:
    async with a_service(*NAMES, redis=False) as startup:
        app = ReadinessGate(_inside, startup, hold_seconds=0)
        assert (await ask(app, "/health/readyz/database"))[0] == 299
        app = ReadinessGate(_inside, startup, hold_seconds=0, bypass=health_paths("/internal"))
        for path, status in (
            ("/internal/readyz/a/b c", 299),
            ("/health/readyz/database", 503),
            ("/internal/livez/x", 503),
        ):
            assert (await ask(app, path))[0] == status, path
        caller = Caller(app, websocket_scope("/internal/readyz/database"))
        await caller.run()
        assert caller.status == 503


@pytest.mark.parametrize(
    ("path", "raw", "let"),
    [
        ("/readyz/a", "", True),
        ("/readyz/a/b", "/readyz/a%2Fb", True),
        ("/readyz/a", "/api/readyz/a", True),
        ("/readyz/a", "/readyz%2Fa", False),
        ("/rooms/readyz/a", "/rooms%2Freadyz/a", False),
        ("/rooms/readyz/a", "/rooms/readyz/a", True),
        ("/rooms/readyz/", "/rooms/readyz/", False),
        ("/rooms/x/readyz/a", "", False),
        ("/livez/a", "", False),
    ],
)
def test_what_passes_below_readyz(path: str, raw: str, let: bool) -> None:
    passing = frozenset([*health_paths(""), *health_paths("/rooms")])
    assert passes(path, passing, raw=raw, websocket=False) == let
    assert not passes(path, passing, raw=raw, websocket=True)
    assert not passes(path, frozenset(["/livez"]), raw=raw, websocket=False)


def test_what_is_a_health_check() -> None:
    checks = ["/livez", "/readyz", "/startupz", "/readyz/x", "/readyz/x/y"]
    assert [
        path for path in [*checks, "/readyz/", "/livez/x", "/x/readyz"] if is_health_path(path)
    ] == checks
