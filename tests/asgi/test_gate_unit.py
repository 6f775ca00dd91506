"""The gate on plain ASGI, with time in the test's hand, on both backends."""

import contextlib
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import CoroutineType
from typing import Any

import anyio
import anyio.abc
import pytest

from orchestrator import Orchestrator, Policy, Stage
from orchestrator._http.asgi_types import Message, Receive, Scope, Send
from orchestrator.asgi import HEALTH_PATHS, ReadinessGate, health_paths
from orchestrator.asgi._connection import KEPT_BYTES
from orchestrator.testing import WRONG_PASSWORD, ManualClock
from tests.asgi.gate_support import (
    HANG_UP,
    LEAVE,
    NO_DRAIN,
    App,
    Caller,
    Refused,
    Startup,
    http_scope,
    settled,
    websocket_scope,
)

pytestmark = pytest.mark.anyio

PART: Message = {"type": "http.request", "body": b"a part", "more_body": True}

GRACE_OF_A_SECOND = Policy(grace_seconds=1.0)


@dataclass
class World:
    gate: ReadinessGate
    app: App
    clock: ManualClock
    tasks: anyio.abc.TaskGroup

    def call(self, scope: Scope | None = None, *only: Message) -> Caller:
        caller = Caller(self.gate, websocket_scope() if scope is None else scope)
        if only:
            caller.give_only(*only)
        self.tasks.start_soon(caller.run)
        return caller

    async def called(self, scope: Scope | None = None, *only: Message) -> Caller:
        caller = self.call(scope, *only)
        await settled()
        return caller


@asynccontextmanager
async def a_world(startup: Orchestrator, **options: Any) -> AsyncGenerator[World]:  # the gate's own
    app, clock = App(), ManualClock()
    gate = ReadinessGate(app, startup, clock=clock, **options)
    async with anyio.create_task_group() as tasks:
        yield World(gate, app, clock, tasks)
        tasks.cancel_scope.cancel()


def accepted(caller: Caller) -> bool:
    return bool(caller.sent) and caller.sent[0]["type"] == "websocket.accept"


@pytest.mark.parametrize("scope", [websocket_scope(), http_scope()], ids=["websocket", "http"])
async def test_held_until_ready_then_admitted(scope: Scope) -> None:
    async with Startup() as startup, a_world(startup) as world:
        caller = await world.called(scope)
        assert not caller.sent
        assert world.gate.held == 1
        startup.make_ready()
        await settled()
        assert caller.sent[0]["type"] in ("websocket.accept", "http.response.start")
        assert world.gate.held == 0
        assert (world.gate.counts.held, world.gate.counts.admitted) == (1, 1)


async def test_before_the_orchestrator_is_entered_the_gate_says_so_at_once() -> None:
    startup = Startup()
    async with a_world(startup) as world:
        for scope in (websocket_scope(), http_scope()):
            refused = await world.called(scope)
            assert refused.status == 503
            assert b"never began" in refused.body
        async with startup:
            caller = await world.called()
            assert world.gate.held == 1
            startup.make_ready()
            await settled()
            assert accepted(caller)


async def test_a_gate_made_after_ready_admits() -> None:
    async with Startup() as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        async with a_world(startup) as world:
            assert accepted(await world.called())
            assert world.gate.counts.held == 0


@pytest.mark.parametrize("scope", [websocket_scope(), http_scope()], ids=["websocket", "http"])
async def test_the_hold_limit_is_kept(scope: Scope) -> None:
    async with Startup() as startup, a_world(startup, hold_seconds=5.0) as world:
        caller = world.call(scope)
        await world.clock.advance(4.99)
        assert not caller.sent
        await world.clock.advance(0.02)
        assert caller.status == 503
        assert world.gate.held == 0
        assert world.gate.counts.timed_out == 1


async def test_a_refusal_that_is_slow_to_send_keeps_no_place() -> None:
    async def stuck(_: Message) -> None:
        await anyio.sleep_forever()

    async with Startup() as startup, a_world(startup) as world:
        caller = Caller(world.gate, http_scope())
        world.tasks.start_soon(world.gate, caller.scope, caller.receive, stuck)
        await world.clock.advance(5.1)
        assert world.gate.held == 0


async def test_holding_for_zero_seconds_refuses_at_once() -> None:
    async with Startup() as startup, a_world(startup, hold_seconds=0) as world:
        assert (await world.called()).status == 503


async def test_one_too_many_is_refused_at_once_and_a_free_place_is_used() -> None:
    async with Startup() as startup, a_world(startup, max_held=2) as world:
        first, _ = await world.called(), await world.called()
        assert (await world.called()).status == 503
        assert world.gate.counts.overflow == 1
        first.give(LEAVE)
        await settled()
        assert world.gate.held == 1
        assert not (await world.called()).sent
        assert world.gate.held == 2


@pytest.mark.parametrize(
    ("scope", "leave", "parting"),
    [
        (websocket_scope(), LEAVE, ["websocket.close"]),
        # An answer that nobody reads: middlewares and servers log an error where there is none.
        (http_scope(), HANG_UP, ["http.response.start", "http.response.body"]),
        (http_scope(method="POST"), HANG_UP, ["http.response.start", "http.response.body"]),
    ],
    ids=["websocket", "http", "upload"],
)
async def test_a_client_that_leaves_frees_its_place(
    scope: Scope, leave: Message, parting: list[str]
) -> None:
    async with Startup() as startup, a_world(startup) as world:
        first: list[Message] = [PART, PART] if scope.get("method") == "POST" else []
        caller = await world.called(scope, *first)
        caller.give(leave)
        await settled()
        assert caller.done.is_set()
        assert [message["type"] for message in caller.sent] == parting
        assert world.gate.held == 0
        assert world.gate.counts.left == 1
        assert not world.app.scopes


async def test_a_cancelled_request_frees_its_place() -> None:
    async with Startup() as startup, a_world(startup) as world:
        with anyio.CancelScope() as scope:
            world.tasks.start_soon(Caller(world.gate, websocket_scope()).run)
            await settled()
            async with anyio.create_task_group() as inner:
                inner.start_soon(Caller(world.gate, websocket_scope()).run)
                await settled()
                assert world.gate.held == 2
                scope.cancel()
        assert world.gate.held == 1


async def test_a_receive_that_raises_is_raised_to_the_server() -> None:
    async with Startup() as startup, a_world(startup) as world:

        async def broken() -> Message:
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await world.gate(http_scope(), broken, Caller(world.gate, http_scope()).send)
        assert world.gate.held == 0


async def test_a_server_that_lets_nobody_answer_the_departed_logs_nothing() -> None:
    async with Startup() as startup, a_world(startup) as world:
        caller = Caller(world.gate, http_scope())

        async def send(_: Message) -> None:
            raise OSError("gone")

        caller.give(HANG_UP)
        await world.gate(http_scope(), caller.receive, send)
        assert world.gate.counts.left == 1


@pytest.mark.parametrize(
    ("part", "parts", "read"),
    [
        (b"x" * 1000, 20, 20),  # all of it, and then the client's leaving is waited for
        (b"x" * 32 * 1024, 20, 2),
        (b"x" * KEPT_BYTES * 4, 3, 1),
        (b"x", 3000, 256),  # one byte at a time takes memory, too
        (b"", 3000, 256),
    ],
)
async def test_of_an_upload_a_bounded_part_is_kept_while_held_and_all_of_it_arrives(
    part: bytes, parts: int, read: int
) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < parts - 1}
        for number in range(parts)
    ]
    async with Startup() as startup, a_world(startup) as world:
        caller = await world.called(http_scope(method="POST"), *messages)
        assert abs(parts - caller.unread - read) <= 1  # the rest stays with the server
        startup.make_ready()
        await settled()
        assert caller.body == part * parts


async def test_degraded_refuses_at_once() -> None:
    async with Refused(permanent=True) as startup, a_world(startup) as world:
        await startup.wait_for(Stage.DEGRADED)
        assert (await world.called()).status == 503
        assert (await world.called(http_scope())).status == 503
        assert world.gate.counts.refused == 2


async def test_those_held_are_refused_when_start_up_ends_degraded() -> None:
    async with Startup() as startup, a_world(startup) as world:
        caller = await world.called()
        startup.probe.then(WRONG_PASSWORD)
        await settled()
        await startup.wait_for(Stage.DEGRADED)
        await settled()
        assert caller.status == 503


async def test_degraded_may_be_admitted_and_the_application_can_tell() -> None:
    async with (
        Refused(permanent=True) as startup,
        a_world(startup, admit_degraded=True) as world,
    ):
        await startup.wait_for(Stage.DEGRADED)
        scope = http_scope()
        scope["state"] = {"pool": "mine"}
        assert (await world.called(scope)).status == 200
        assert world.app.scopes[0]["state"] == {"pool": "mine", "startup": startup}
        assert scope["state"] == {"pool": "mine"}
        assert (await world.called(http_scope())).status == 200
        assert world.app.scopes[1]["state"]["startup"].stage is Stage.DEGRADED


async def test_the_grace_after_degraded_stays_admitted() -> None:
    clock = ManualClock()
    startup = Orchestrator(
        probe := Refused(permanent=True).probe, clock=clock, policy=GRACE_OF_A_SECOND
    )
    async with startup, a_world(startup, admit_degraded=True) as world:
        await startup.wait_for(Stage.DEGRADED)
        probe.then(None)
        await clock.advance(0.1)
        assert startup.stage is Stage.GRACE
        assert accepted(await world.called())


async def test_after_degraded_requests_are_held_in_grace_and_admitted_when_ready() -> None:
    clock = ManualClock()
    startup = Orchestrator(
        probe := Refused(permanent=True).probe, clock=clock, policy=GRACE_OF_A_SECOND
    )
    async with startup, a_world(startup) as world:
        await startup.wait_for(Stage.DEGRADED)
        probe.then(None)
        await clock.advance(0.1)
        caller = await world.called()
        assert world.gate.held == 1
        await clock.advance(2.0)
        assert accepted(caller)


async def test_disabled_admits_everything_even_before_it_is_entered() -> None:
    async with a_world(Startup(enabled=False)) as world:
        assert accepted(await world.called())
        assert (await world.called(http_scope())).status == 200


async def test_leaving_the_orchestrator_refuses_those_held_and_later_ones() -> None:
    startup = Startup()
    async with a_world(startup) as world:
        async with startup:
            caller = await world.called()
        await settled()
        assert caller.status == 503
        assert b"stopping" in caller.body
        assert (await world.called()).status == 503
        assert world.gate.counts.refused == 2


async def test_an_error_that_ends_the_orchestrator_refuses_those_held() -> None:
    startup = Startup()
    async with a_world(startup) as world:
        with contextlib.suppress(RuntimeError):
            async with startup:
                caller = await world.called()
                raise RuntimeError("application")
        await settled()
        assert caller.status == 503


async def test_stop_refuses_those_held() -> None:
    async with Startup() as startup, a_world(startup) as world:
        caller = await world.called()
        world.gate.stop()
        await settled()
        assert caller.status == 503


async def test_refusals_tell_when_to_come_back() -> None:
    async with Startup() as startup, a_world(startup, max_held=0) as world:
        callers = [await world.called() for _ in range(60)]
        assert {caller.headers["retry-after"] for caller in callers} == {"1", "2", "3"}
        caller = callers[0]
        assert [message["type"] for message in caller.sent] == [
            "websocket.http.response.start",
            "websocket.http.response.body",
        ]
        assert caller.headers["cache-control"] == "no-store"
        assert caller.headers["content-type"] == "application/problem+json"
        assert caller.headers["content-length"] == str(len(caller.body))
        assert b'"status":503' in caller.body


async def test_without_the_extension_a_websocket_is_closed_before_accept() -> None:
    async with Startup() as startup, a_world(startup, max_held=0) as world:
        caller = await world.called(websocket_scope(denial=False))
        assert caller.sent == [{"type": "websocket.close"}]
        assert caller.unread == 0  # the connect was received before


async def test_accept_then_close() -> None:
    async with Startup() as startup, a_world(startup, max_held=0, accept_then_close=True) as world:
        caller = await world.called()
        assert [message["type"] for message in caller.sent] == [
            "websocket.accept",
            "websocket.close",
        ]
        assert caller.sent[1]["code"] == 1013
        assert not world.gate.closes  # the application did not cause it


async def test_a_client_gone_before_a_refusal_is_not_answered() -> None:
    async with Startup() as startup, a_world(startup, max_held=0) as world:
        caller = await world.called(None, LEAVE)
        assert caller.sent == [{"type": "websocket.close"}]


async def test_health_paths_pass_in_every_stage() -> None:
    async with Startup() as startup, a_world(startup) as world:
        assert (await world.called(http_scope("/readyz"))).status == 200
        assert (await world.called(http_scope("/api/livez", root_path="/api"))).status == 200
        await world.called(http_scope("/livezz"))
        assert world.gate.held == 1


async def test_bypass_by_a_function() -> None:
    async with (
        Startup() as startup,
        a_world(startup, bypass=lambda scope: scope["path"].startswith("/static/")) as world,
    ):
        assert (await world.called(http_scope("/static/x.css"))).status == 200
        assert not (await world.called(http_scope("/livez"))).sent


LIKE_HEALTH = [
    "/rooms/readyz",
    "/rooms/a/readyz",
    "/x/livez",
    "/notlivez",
    "/livez/",
    "//livez",
    "/LIVEZ",
    "/livez/x",
    "/health",
    "/health/",
    "/health//readyz",
    "/health/readyz/",
    "/Health/readyz",
    "/health/x/readyz",
    "/readyz;x",
    "/readyz.",
    "/./readyz",
    "/health/../readyz",
    "readyz",
    "",
]


@pytest.mark.parametrize("path", LIKE_HEALTH)
async def test_a_path_that_only_looks_like_a_health_endpoint_is_held(path: str) -> None:
    async with Startup() as startup, a_world(startup) as world:
        assert not (await world.called(http_scope(path))).sent
        assert not (await world.called(http_scope("/api" + path, root_path="/api"))).sent
        assert world.gate.held == 2


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/rooms/a/readyz", b"/rooms/a%2Freadyz"),
        ("/health/readyz", b"/health%2Freadyz"),
        ("/health/readyz", b"/health%2freadyz"),
        ("/health/readyz", b"%2Fhealth/readyz"),
    ],
)
async def test_an_encoded_slash_separates_nothing(path: str, raw: bytes) -> None:
    async with Startup() as startup, a_world(startup) as world:
        scope = {**http_scope(path), "raw_path": raw}
        assert not (await world.called(scope)).sent
        assert world.gate.held == 1


@pytest.mark.parametrize("root_path", ["", "/api", "/api/"])
@pytest.mark.parametrize("path", [*HEALTH_PATHS, *health_paths()])
async def test_health_endpoints_pass_at_the_root_and_below_health(
    path: str, root_path: str
) -> None:
    async with Startup() as startup, a_world(startup) as world:
        whole = root_path.rstrip("/") + path
        scope = {**http_scope(whole, root_path=root_path), "raw_path": whole.encode()}
        assert (await world.called(scope)).status == 200
        assert (await world.called(http_scope(path, root_path=root_path))).status == 200
        assert (await world.called(http_scope(whole, "HEAD", root_path))).status == 200


@pytest.mark.parametrize("mount", ["/internal", "/internal/", "/a/b", ""])
async def test_health_endpoints_pass_where_their_mount_is_declared(mount: str) -> None:
    async with Startup() as startup, a_world(startup, bypass=health_paths(mount)) as world:
        for name in HEALTH_PATHS:
            assert (await world.called(http_scope(mount.rstrip("/") + name))).status == 200
            assert not (await world.called(http_scope("/elsewhere" + name))).sent
            assert not (await world.called(http_scope("/health" + name))).sent


def test_a_mount_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="begin with a slash"):
        health_paths("health")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"health": True},
        {"bypass": [*HEALTH_PATHS, *health_paths("/rooms")]},
        {"websocket_only": True},
    ],
)
@pytest.mark.parametrize("path", ["/readyz", "/health/livez", "/rooms/startupz"])
async def test_no_websocket_is_a_health_check(path: str, options: dict[str, Any]) -> None:
    async with Startup() as startup, a_world(startup, **options) as world:
        assert not (await world.called(websocket_scope(path))).sent
        assert world.gate.held == 1


async def test_a_health_endpoint_whose_mount_is_not_declared_is_pointed_out_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Startup() as startup, a_world(startup) as world:
        await world.called(http_scope("/x"))
        await world.called(websocket_scope("/rooms/readyz"))
        assert not caplog.records
        await world.called(http_scope("/a\x1b[2Jb\n" + "c" * 5000 + "/livez"))
        await world.called(http_scope("/internal/livez"))
    (record,) = caplog.records
    assert 'bypass=health_paths("/internal")' in record.getMessage()
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 500


async def test_websocket_only_lets_http_pass() -> None:
    async with Startup() as startup, a_world(startup, websocket_only=True) as world:
        assert (await world.called(http_scope())).status == 200
        assert not (await world.called()).sent


async def test_health_answered_by_the_gate() -> None:
    async with Startup() as startup, a_world(startup, health=True) as world:
        assert (await world.called(http_scope("/livez"))).status == 200
        assert (await world.called(http_scope("/readyz"))).status == 503
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        assert (await world.called(http_scope("/readyz"))).status == 200
        assert not world.app.scopes


async def test_hooks_are_told_and_one_that_raises_is_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[str] = []

    def hook(outcome: str) -> None:
        told.append(outcome)
        if len(told) == 2:
            raise RuntimeError("telemetry")

    async with (
        Startup() as startup,
        a_world(startup, max_held=0, on_admission=hook) as world,
    ):
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                assert (await world.called()).status == 503
    assert told == ["overflow"] * 3
    assert "is called again the next time" in caplog.text


async def test_an_orchestrator_that_is_not_entered_is_explained_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_world(Startup()) as world:
        for _ in range(2):
            assert (await world.called()).status == 503
    assert caplog.text.count("is not entered: give the application lifespan=") == 1


async def test_a_gate_serves_one_start_up_after_the_other() -> None:
    startup = Startup()
    async with a_world(startup) as world:
        for life in range(1, 4):
            async with startup:
                caller = await world.called()
                assert world.gate.held == 1
                startup.make_ready()
                await settled()
                assert accepted(caller)
                world.gate.stop()  # of this start-up
                startup.lose()
                await settled()
                assert (await world.called()).status == 503
            assert (world.gate.counts.admitted, world.gate.counts.refused) == (life, life)


async def test_a_gate_that_was_made_inside_serves_later_start_ups_too() -> None:
    startup = Startup()
    await startup.start()
    async with a_world(startup) as world:
        await startup.aclose()
        async with startup:
            caller = await world.called()
            startup.make_ready()
            await settled()
            assert accepted(caller)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"hold_seconds": -1}, "hold_seconds"),
        ({"hold_seconds": float("nan")}, "hold_seconds"),
        ({"max_held": -1}, "max_held"),
        ({"release_batch": 0}, "release_batch"),
        ({"retry_after_seconds": (3, 1)}, "retry_after_seconds"),
        ({"bypass": "/livez"}, "bypass"),
    ],
)
async def test_values_that_cannot_work_are_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ReadinessGate(App(), Startup(), **options)


# -- closes ----------------------------------------------------------------------------------------


async def test_closes_of_the_application_are_counted() -> None:
    told: list[int | str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/denied":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        if scope["path"] == "/left":
            await receive()
            raise RuntimeError("noticed that the client left")
        if scope["path"] == "/broken":
            raise RuntimeError("a bug")
        close: Message = {"type": "websocket.close"}
        if scope["path"] != "/":
            close["code"] = int(scope["path"][1:])
        await send(close)

    async with Startup() as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        gate = ReadinessGate(app, startup, on_close=told.append)
        for path in ("/denied", "/", "/1011", "/1011", "/broken", "/left"):
            caller = Caller(gate, websocket_scope(path))
            caller.give(LEAVE)
            await caller.run()
        assert gate.closes == {1000: 1, 1011: 2, "application_error": 1}
        assert told == [1000, 1011, 1011, "application_error"]
        for code in range(3000, 3100):
            await Caller(gate, websocket_scope(f"/{code}")).run()
        assert len(gate.closes) <= 65
        assert gate.closes.total() == 104


async def test_a_ready_gate_hands_over_the_server_s_own_callables() -> None:
    seen: list[tuple[Scope, Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    async with Startup(policy=NO_DRAIN) as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        gate = ReadinessGate(app, startup, count_closes=False)
        caller = Caller(gate, websocket_scope())
        receive, send = caller.receive, caller.send
        await gate(caller.scope, receive, send)
        assert seen[0][0] is caller.scope
        assert seen[0][1] is receive
        assert seen[0][2] is send


# -- the paced release -----------------------------------------------------------------------------


class Pool:
    """An application whose handshakes each need one of a few connections for a while."""

    def __init__(self, size: int, *, accepts_first: bool) -> None:
        self.size = size
        self.accepts_first = accepts_first
        self.used = self.most = self.served = self.failed = 0

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if self.accepts_first:
            await send({"type": "websocket.accept"})
        if self.used >= self.size:
            self.failed += 1
            return
        self.used += 1
        self.most = max(self.most, self.used)
        for _turn in range(5):
            await anyio.lowlevel.checkpoint()
        self.used -= 1
        if not self.accepts_first:
            await send({"type": "websocket.accept"})
        self.served += 1
        await receive()


@pytest.mark.parametrize("accepts_first", [True, False])
@pytest.mark.parametrize("batch", [32, 1000])
async def test_a_thousand_held_are_released_at_the_pace_of_the_application(
    batch: int, accepts_first: bool
) -> None:
    pool = Pool(100, accepts_first=accepts_first)
    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(pool, startup, max_held=1000, release_batch=batch, hold_seconds=60)
        for _ in range(1000):
            tasks.start_soon(Caller(gate, websocket_scope()).run)
        await settled()
        assert gate.held == 1000
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        while pool.served + pool.failed < 1000:
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    if batch == 32:
        assert (pool.served, pool.failed) == (1000, 0)
        assert pool.most <= 32
    else:
        assert pool.failed  # what the pace is for


async def test_later_arrivals_do_not_overtake() -> None:
    entered: list[str] = []
    go = anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        entered.append(scope["path"])
        await go.wait()
        await send({"type": "websocket.accept"})
        await receive()

    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(app, startup, release_batch=1)

        async def arrive(path: str) -> None:
            tasks.start_soon(Caller(gate, websocket_scope(path)).run)
            await settled()

        for number in range(4):
            await arrive(f"/held-{number}")
        startup.make_ready()
        await settled()
        assert entered == ["/held-0"]
        await arrive("/late")
        assert entered == ["/held-0"]
        go.set()
        await settled()
        assert entered == ["/held-0", "/held-1", "/held-2", "/held-3", "/late"]
        tasks.cancel_scope.cancel()


async def test_ready_lost_in_the_middle_of_a_release_refuses_the_rest() -> None:
    entered: list[str] = []

    async def app(scope: Scope, receive: Receive, _: Send) -> None:
        await receive()
        entered.append(scope["path"])
        await anyio.sleep_forever()

    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(app, startup, release_batch=1)
        callers = [Caller(gate, websocket_scope(f"/{number}")) for number in range(3)]
        for caller in callers:
            tasks.start_soon(caller.run)
            await settled()
        startup.make_ready()
        await settled()
        startup.lose()
        await settled()
        assert entered == ["/0"]
        assert [caller.status for caller in callers] == [None, 503, 503]
        tasks.cancel_scope.cancel()


async def test_a_handler_that_neither_receives_nor_ends_keeps_its_slot_for_a_while() -> None:
    app_calls: list[Scope] = []

    async def app(scope: Scope, _: Receive, send: Send) -> None:
        app_calls.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        if scope["path"] == "/pushes":
            await send({"type": "websocket.send", "text": "news"})
        await anyio.sleep_forever()

    async with Startup() as startup, anyio.create_task_group() as tasks:
        clock = ManualClock()
        gate = ReadinessGate(app, startup, release_batch=1, clock=clock, hold_seconds=40)
        pushes = websocket_scope("/pushes")
        for scope in (pushes, dict(pushes), http_scope(), websocket_scope(), http_scope(), pushes):
            tasks.start_soon(Caller(gate, scope).run)
            await settled()
        startup.make_ready()
        await settled()
        for seconds in (
            0.5,  # it has sent something
            0.25,  # half as long, now that one handler of this path has stayed on
            6.0,  # it has sent nothing
            6.0,  # nor has this one, whose path is another
            3.0,  # half as long, as it was for the path of the pushing ones
        ):
            number, began_at = len(app_calls), clock.now()
            while len(app_calls) == number:
                await clock.advance(0.05)
            assert seconds <= clock.now() - began_at < seconds + 0.15
        tasks.cancel_scope.cancel()


async def test_in_a_moving_line_the_limit_is_twice_as_long() -> None:
    async def app(_: Scope, __: Receive, ___: Send) -> None:
        with clock.cancel_at(clock.now() + 1.0):
            await anyio.sleep_forever()

    async with Startup() as startup, anyio.create_task_group() as tasks:
        clock = ManualClock()
        gate = ReadinessGate(app, startup, release_batch=1, clock=clock, hold_seconds=2.0)
        callers = [Caller(gate, http_scope()) for _ in range(6)]
        for caller in callers:
            tasks.start_soon(caller.run)
            await settled()
        await clock.advance(1.5)
        startup.make_ready()
        await settled()
        await clock.advance(2.0)  # at 3.5 s: three have been let in, one each second
        assert (gate.counts.admitted, gate.held) == (3, 3)
        await clock.advance(1.0)
        assert (gate.counts.admitted, gate.counts.timed_out) == (3, 3)
        tasks.cancel_scope.cancel()


async def test_a_held_websocket_is_left_alone_once_the_release_is_over() -> None:
    seen: list[tuple[Receive, Send]] = []

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        seen.append((receive, send))
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with Startup(policy=NO_DRAIN) as startup, anyio.create_task_group() as tasks:
        clock = ManualClock()
        gate = ReadinessGate(app, startup, clock=clock, count_closes=False)
        caller = Caller(gate, websocket_scope())
        tasks.start_soon(caller.run)
        await settled()
        startup.make_ready()
        await settled()
        await clock.advance(1.2)  # a calm second
        for _ in range(2):  # what it waits for now was begun in the release
            caller.give({"type": "websocket.receive", "text": "a message"})
            await settled()
        ((receive, send),) = seen
        await send({"type": "websocket.send", "text": "an answer"})
        for handed, own in (
            (receive(), "Caller.receive"),
            (send({"type": "websocket.send", "text": "another"}), "Caller.send"),
        ):
            assert isinstance(handed, CoroutineType)
            assert handed.__qualname__ == own  # with nothing in between
            handed.close()
        tasks.cancel_scope.cancel()


async def test_a_message_is_not_lost_to_a_handler_that_stops_waiting_for_its_turn() -> None:
    got: list[str] = []
    first_try, end_of_work = anyio.CancelScope(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/works":
            await end_of_work.wait()
            return
        with first_try:
            await receive()
        while True:
            got.append((await receive())["text"])

    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(app, startup, release_batch=1, clock=ManualClock())
        waits, works = (Caller(gate, websocket_scope(path)) for path in ("/waits", "/works"))
        for caller in (waits, works):
            tasks.start_soon(caller.run)
            await settled()
        startup.make_ready()
        await settled()
        for text in ("first", "second"):
            waits.give({"type": "websocket.receive", "text": text})
        await settled()
        assert waits.unread == 1  # the first waits for the slot that the other handler has
        first_try.cancel()
        await settled()
        assert got == []
        end_of_work.set()
        await settled()
        assert got == ["first", "second"]
        tasks.cancel_scope.cancel()


async def test_one_that_is_let_in_as_it_comes_is_not_waited_for() -> None:
    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(app, startup, clock=ManualClock())
        caller = Caller(gate, websocket_scope())
        # Decided before the task that looks after it has run for the first time.
        tasks.start_soon(caller.run)
        startup.make_ready()
        with anyio.fail_after(20):
            await caller.done.wait()
        assert accepted(caller)
