"""What can be chosen: closing on degrade, limits by route, several gates, and how it is stopped."""

import asyncio
import os
import signal
from random import Random
from typing import Any

import anyio
import pytest

from orchestrator import Stage
from orchestrator._http.asgi_types import Message, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from orchestrator.testing import ManualClock
from tests.asgi.gate_support import (
    App,
    Caller,
    Startup,
    http_scope,
    serving,
    settled,
    until,
    websocket_scope,
)
from tests.asgi.test_gate_server import ping

pytestmark = pytest.mark.anyio

CLOSED: Message = {
    "type": "websocket.close",
    "code": 1013,
    "reason": "The service is degraded.",
}


# -- closing on degrade ----------------------------------------------------------------------------


async def test_open_websockets_are_closed_one_by_one_when_degraded() -> None:
    app, clock = App(), ManualClock()
    async with Startup() as startup, anyio.create_task_group() as tasks:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        gate = ReadinessGate(
            app, startup, close_on_degrade_seconds=10, clock=clock, random=Random(1)
        )
        callers = [Caller(gate, websocket_scope()) for _ in range(20)]
        for caller in callers:
            tasks.start_soon(caller.run)
        await settled()
        startup.lose()
        await settled()
        closed_at = []
        for second in range(1, 11):
            await clock.advance(1.0)
            closed_at.append(sum(CLOSED in caller.sent for caller in callers))
            assert second == 10 or closed_at[-1] < 20
        assert closed_at == sorted(closed_at)
        assert closed_at[-1] == 20
        assert len(set(closed_at)) > 4  # spread, and not all at once
        assert all(caller.done.is_set() and caller.error is None for caller in callers)
        assert gate.closes == {1013: 20}


async def test_whoever_is_not_closed_yet_stays_when_the_service_is_back() -> None:
    clock = ManualClock()
    async with Startup() as startup, anyio.create_task_group() as tasks:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        gate = ReadinessGate(
            App(), startup, close_on_degrade_seconds=10, clock=clock, random=Random(1)
        )
        callers = [Caller(gate, websocket_scope()) for _ in range(20)]
        for caller in callers:
            tasks.start_soon(caller.run)
        await settled()
        startup.lose()
        await clock.advance(5.0)
        closed = gate.closes[1013]
        assert 0 < closed < 20
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        await clock.advance(10.0)
        assert gate.closes[1013] == closed
        await one_answers(callers)
        startup.lose()
        await clock.advance(11.0)
        assert gate.closes[1013] == 20


async def one_answers(callers: list[Caller]) -> None:
    open_one = next(caller for caller in callers if CLOSED not in caller.sent)
    open_one.give({"type": "websocket.receive", "text": "ping"})
    await settled()
    assert open_one.sent[-1] == {"type": "websocket.send", "text": "pong"}


async def test_an_application_that_pushes_hears_of_the_close_as_of_a_client_that_left() -> None:
    push, raised = anyio.Event(), list[type[Exception]]()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await push.wait()
        try:
            await send({"type": "websocket.send", "text": "news"})
        except OSError as error:
            raised.append(type(error))
            raise

    async with Startup() as startup, anyio.create_task_group() as tasks:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        gate = ReadinessGate(app, startup, close_on_degrade_seconds=0)
        caller = Caller(gate, websocket_scope())
        tasks.start_soon(caller.run)
        await settled()
        startup.lose()
        await caller_is_closed(caller)
        push.set()
        await caller.done.wait()
        assert raised == [OSError]
        assert caller.error is None
        assert caller.sent[-1] == CLOSED


@pytest.mark.parametrize("reads_again", [True, False])
async def test_a_client_that_takes_nothing_keeps_no_handler_and_counts_when_it_is_closed(
    reads_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several tasks of a handler send, as servers let them: each waits for the client to read."""
    monkeypatch.setattr(
        "orchestrator._gate.open_sockets._CLOSE_SECONDS", 30.0 if reads_again else 0.05
    )
    reads, ended = anyio.Event(), list[str]()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})

        async def push() -> None:
            try:
                await send({"type": "websocket.send", "text": "news"})
            except OSError:
                ended.append("send")

        async with anyio.create_task_group() as pushing:
            pushing.start_soon(push)
            pushing.start_soon(push)
            ended.append((await receive())["type"])

    async with Startup() as startup, anyio.create_task_group() as tasks:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        gate = ReadinessGate(app, startup, close_on_degrade_seconds=0)
        caller = Caller(gate, websocket_scope())
        take = caller.send

        async def send(message: Message) -> None:
            if message["type"] != "websocket.accept":
                await reads.wait()
            await take(message)

        caller.send = send  # type: ignore[method-assign]  # it watches what is sent
        tasks.start_soon(caller.run)
        await settled()
        startup.lose()
        await startup.wait_for(Stage.DEGRADED)
        await settled()
        assert not gate.closes
        if reads_again:
            assert not ended  # nobody ends before the close is out: some servers close then
            reads.set()
        await caller.done.wait()
        assert sorted(ended) == ["send", "send", "websocket.disconnect"]
        assert caller.error is None
        assert gate.closes == ({1013: 1} if reads_again else {})
        assert caller.sent[1:] == ([CLOSED] if reads_again else [])


async def test_one_that_was_let_in_just_before_is_closed_when_it_opens() -> None:
    accept, times = anyio.Event(), 0

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await accept.wait()
        await send({"type": "websocket.accept"})
        await receive()

    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(app, startup, close_on_degrade_seconds=0)
        for times in (1, 2):  # noqa: B007  also after a recovery in which nobody came
            startup.make_ready()
            await startup.wait_for(Stage.READY)
            startup.lose()
            await startup.wait_for(Stage.DEGRADED)
            startup.make_ready()
            await startup.wait_for(Stage.READY)
            accept = anyio.Event()
            caller = Caller(gate, websocket_scope())
            tasks.start_soon(caller.run)
            await settled()
            startup.lose()
            await startup.wait_for(Stage.DEGRADED)
            accept.set()
            await caller_is_closed(caller)
            await caller.done.wait()
        assert gate.closes == {1013: times}


async def caller_is_closed(caller: Caller) -> None:
    await until(lambda: CLOSED in caller.sent)


async def test_a_bypassed_websocket_stays_open() -> None:
    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(App(), startup, close_on_degrade_seconds=0, bypass=["/always"])
        caller = Caller(gate, websocket_scope("/always"))
        tasks.start_soon(caller.run)
        await settled()
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        startup.lose()
        await startup.wait_for(Stage.DEGRADED)
        await settled()
        assert CLOSED not in caller.sent
        tasks.cancel_scope.cancel()


# -- the scope of a gate ---------------------------------------------------------------------------


async def test_a_crowded_route_leaves_places_to_the_others() -> None:
    async with Startup() as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(
            App(), startup, max_held=5, limits={"/chat": 3, "/chat/vip": 1, "/chatter": 0}
        )

        async def status(path: str) -> int | None:
            caller = Caller(gate, websocket_scope(path))
            tasks.start_soon(caller.run)
            await settled()
            return caller.status

        assert [await status(path) for path in ("/chat", "/chat/1", "/chat/2", "/chat/3")] == [
            *(None, None, None),
            503,
        ]
        assert [await status("/chat/vip/1"), await status("/chat/vip/2")] == [None, 503]
        assert [await status("/chatter"), await status("/other"), await status("/other")] == [
            503,
            None,
            503,  # the sixth
        ]
        assert gate.counts.overflow == 4
        startup.make_ready()
        await settled()
        assert gate.counts.admitted == 5
        startup.lose()
        await settled()
        tasks.cancel_scope.cancel()


async def test_a_predicate_lets_pass_by_anything_in_the_scope() -> None:
    def is_internal(scope: Scope) -> bool:
        return (b"x-internal", b"1") in scope["headers"]

    app = App()
    async with Startup() as startup:
        gate = ReadinessGate(app, startup, bypass=is_internal, max_held=0)
        inside, outside = http_scope("/metrics"), http_scope("/metrics")
        inside["headers"] = [(b"x-internal", b"1")]
        callers = [Caller(gate, scope) for scope in (inside, outside)]
        for caller in callers:
            await caller.run()
        assert [caller.status for caller in callers] == [200, 503]


async def test_several_gates_on_one_orchestrator_choose_for_themselves() -> None:
    app = App()
    async with Startup() as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        strict = ReadinessGate(app, startup)
        lenient = ReadinessGate(app, startup, admit_degraded=True)
        startup.lose()
        await startup.wait_for(Stage.DEGRADED)
        callers = [Caller(gate, http_scope()) for gate in (strict, lenient)]
        for caller in callers:
            await caller.run()
        assert [caller.status for caller in callers] == [503, 200]
        assert (strict.counts.refused, lenient.counts.refused) == (1, 0)


@pytest.mark.parametrize(
    ("options", "text"),
    [({"limits": {"/chat": -1}}, "limits"), ({"close_on_degrade_seconds": -1}, "close_on_degrade")],
)
async def test_values_that_cannot_work_are_named(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ReadinessGate(App(), Startup(), **options)


# -- its start and its end -------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvicorn runs on nothing else
async def test_a_server_without_lifespan_starts_it_with_the_first_request() -> None:
    startup = Startup()
    gate = ReadinessGate(App(), startup, manage_lifespan=True)
    async with serving(gate, lifespan="off") as port:
        assert not startup.running
        client = asyncio.create_task(ping(port))
        await until(lambda: gate.held == 1 and startup.running)
        startup.make_ready()
        assert await client == "pong"
        [task] = [task for task in asyncio.all_tasks() if task.get_name() == "startup-orchestrator"]
        task.cancel()
        await until(lambda: not startup.running)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # on trio nobody can be told
@pytest.mark.parametrize(
    ("number", "by_loop"),
    [(signal.SIGTERM, True), (signal.SIGTERM, False), (signal.SIGQUIT, True)],  # gunicorn's
)
async def test_a_signal_refuses_those_held_and_reaches_the_server(
    number: signal.Signals, by_loop: bool
) -> None:
    heard = anyio.Event()
    loop = asyncio.get_running_loop()
    before = signal.getsignal(number)
    if by_loop:
        loop.add_signal_handler(number, heard.set)
    else:
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(heard.set))
    servers_own = signal.getsignal(number)
    try:
        async with Startup() as startup, anyio.create_task_group() as tasks:
            gate = ReadinessGate(App(), startup)
            await until(lambda: signal.getsignal(number) is not servers_own)
            caller = Caller(gate, http_scope())
            tasks.start_soon(caller.run)
            await until(lambda: gate.held == 1)
            os.kill(os.getpid(), number)
            await heard.wait()
            await caller.done.wait()
            assert caller.status == 503
            assert b"stopping" in caller.body
        assert signal.getsignal(number) is servers_own
    finally:
        loop.remove_signal_handler(number)
        signal.signal(number, before)


async def test_the_signal_is_left_alone_where_it_should_be() -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with Startup() as startup:
        ReadinessGate(App(), startup, stop_on_sigterm=False)
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        await settled()
        assert signal.getsignal(signal.SIGTERM) is before
