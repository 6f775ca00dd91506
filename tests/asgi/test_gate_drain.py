"""The gate in a drain: announced, then closed to what is new, and emptied evenly."""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import pytest
from anyio.abc import TaskGroup

from orchestrator import Orchestrator, Policy, Stage, Task
from orchestrator._http.asgi_types import Message, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from orchestrator.testing import ManualClock, ScriptedProbe
from tests.asgi.gate_support import (
    App,
    Caller,
    Startup,
    expect,
    http_scope,
    settled,
    until,
    websocket_scope,
)

pytestmark = pytest.mark.anyio

TIMES = Policy(
    grace_seconds=0.0,
    drain_announce_seconds=5.0,
    drain_close_seconds=10.0,
    drain_limit_seconds=30.0,
)


class Works:
    """Answers a request when told to; echoes WebSockets and notes how they ended."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()
        self.ended: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await expect(receive, "websocket.connect")
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                pass
            self.ended.append(message)
            return
        await receive()
        if scope["path"] == "/work":
            await self.go_on.wait()
        headers = [(b"Connection", b"keep-alive"), (b"x-mine", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"done"})


@asynccontextmanager
async def ready() -> AsyncGenerator[tuple[Startup, ManualClock]]:
    """A start-up that is ready, on a clock of its own, without a young release."""
    clock = ManualClock()
    async with Startup(clock, policy=TIMES) as startup:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        yield startup, clock


async def call(gate: ReadinessGate, scope: Scope) -> Caller:
    caller = Caller(gate, scope)
    await caller.run()
    return caller


async def let_in_and_drain(
    callers: Sequence[Caller], startup: Orchestrator, tasks: TaskGroup
) -> None:
    for caller in callers:
        tasks.start_soon(caller.run)
    await settled()
    tasks.start_soon(startup.drain)
    await until(lambda: startup.draining)


async def test_new_requests_are_served_until_the_announcement_is_over() -> None:
    async with ready() as (startup, clock), anyio.create_task_group() as tasks:
        works = Works()
        gate = ReadinessGate(works, startup, health=True, clock=clock)
        before = await call(gate, http_scope())
        assert before.headers["Connection"] == "keep-alive"
        running = Caller(gate, http_scope("/work"))
        tasks.start_soon(running.run)
        await settled()
        tasks.start_soon(startup.drain, "SIGTERM")
        await until(lambda: startup.draining)
        # From the first moment, and also what was under way.
        readyz = await call(gate, http_scope("/readyz"))
        assert (readyz.status, readyz.headers["connection"]) == (503, "close")
        assert b"the service is draining" in readyz.body
        assert (await call(gate, http_scope("/livez"))).status == 200
        served = await call(gate, http_scope())
        assert served.status == 200
        assert served.headers == {"x-mine": "1", "connection": "close"}
        second = await call(gate, {**http_scope(), "http_version": "2"})
        assert second.headers == before.headers, "HTTP/2 forbids the header"
        await clock.advance(5.1)
        refused = await call(gate, http_scope())
        assert (refused.status, refused.headers["connection"]) == (503, "close")
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        assert b"The service is stopping." in refused.body
        assert (await call(gate, websocket_scope())).status == 503
        assert (await call(gate, http_scope("/livez"))).status == 200
        assert not startup.explain().draining.endswith("it is over")
        works.go_on.set()  # the request that was under way ends as it would have
        await until(lambda: startup.explain().draining.endswith("it is over"))
        assert running.status == 200
        assert running.headers["connection"] == "close"
    assert gate.counts.refused == 2


async def _marked(mark: bytes, message: Message, *, send: Send, mark_too: bytes) -> None:
    if message["type"] == "http.response.start":
        headers = [*message["headers"], (b"x-mark", mark), (b"x-mark-too", mark_too)]
        message = {**message, "headers": headers}
    await send(message)


async def test_a_send_with_arguments_of_its_own_keeps_them_in_a_drain() -> None:
    async with ready() as (startup, clock), anyio.create_task_group() as tasks:
        works = Works()
        gate = ReadinessGate(works, startup, clock=clock)

        async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
            # As Starlette's CORSMiddleware does, which may well be outside the gate.
            await gate(scope, receive, partial(_marked, b"1", send=send, mark_too=b"2"))

        async def with_keywords(scope: Scope, receive: Receive, send: Send) -> None:
            async def one_mark(message: Message, *, send: Send, mark_too: bytes) -> None:
                await _marked(b"1", message, send=send, mark_too=mark_too)

            await gate(scope, receive, partial(one_mark, send=send, mark_too=b"2"))

        callers = [Caller(app, http_scope("/work")) for app in (middleware, with_keywords)]
        await let_in_and_drain(callers, startup, tasks)
        works.go_on.set()
        await until(lambda: all(caller.status == 200 for caller in callers))
        for caller in callers:
            marks = [caller.headers[name] for name in ("x-mark", "x-mark-too", "connection")]
            assert marks == ["1", "2", "close"]
        await clock.advance(5.1)


async def test_open_websockets_are_closed_one_after_the_other() -> None:
    async with ready() as (startup, clock), anyio.create_task_group() as tasks:
        works = Works()
        gate = ReadinessGate(works, startup, clock=clock)
        callers = [Caller(gate, websocket_scope()) for _ in range(10)]
        await let_in_and_drain(callers, startup, tasks)
        await clock.advance(5.0)
        for closed in range(1, 11):
            await settled()
            assert len(works.ended) == closed
            await clock.advance(1.0)
        await until(lambda: startup.explain().draining.endswith("it is over"))
        reason = "The service is restarting."
        code = {"code": 1012, "reason": reason}
        assert works.ended == [{"type": "websocket.disconnect", **code}] * 10
        close = {"type": "websocket.close", **code}
        assert [caller.sent[-1] for caller in callers] == [close] * 10
        assert gate.closes == {1012: 10}


async def test_handlers_that_go_on_meet_nothing_but_a_client_that_has_left() -> None:
    """They push, they close in the end themselves, they accept when it is over."""
    errors: list[BaseException | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/late":
            await late.wait()
        await send({"type": "websocket.accept"})
        try:
            while scope["path"] == "/pushes":
                await send({"type": "websocket.send", "text": "news"})
                await anyio.sleep(0.001)
            await receive()
        except OSError as error:
            errors.append(error)
            raise
        finally:
            await send({"type": "websocket.close", "code": 1001})
            errors.append(None)

    late = anyio.Event()
    async with ready() as (startup, clock), anyio.create_task_group() as tasks:
        gate = ReadinessGate(app, startup, clock=clock)
        callers = [Caller(gate, websocket_scope(path)) for path in ("/pushes", "/closes", "/late")]
        await let_in_and_drain(callers, startup, tasks)
        await clock.advance(5.0)
        await clock.advance(10.0)
        late.set()  # it was let in before, and is closed as soon as it opens
        await until(lambda: startup.explain().draining.endswith("it is over"))
        assert [caller.error for caller in callers] == [None] * 3
        closes = [[m["code"] for m in c.sent if m["type"] == "websocket.close"] for c in callers]
        assert closes == [[1012]] * 3
    assert [type(error) for error in errors].count(OSError) == 1
    assert errors.count(None) == 3


async def test_clients_that_take_nothing_do_not_hold_the_others_up() -> None:
    stuck = anyio.Event()

    class Stuck(Caller):
        async def send(self, message: Message) -> None:
            if message["type"] == "websocket.close":
                await stuck.wait()
            await super().send(message)

    async with ready() as (startup, clock), anyio.create_task_group() as tasks:
        works = Works()
        gate = ReadinessGate(works, startup, clock=clock)
        callers = [(Stuck if n % 2 else Caller)(gate, websocket_scope()) for n in range(10)]
        await let_in_and_drain(callers, startup, tasks)
        await clock.advance(5.0)
        await clock.advance(9.1)
        await settled()
        assert len(works.ended) == 5
        stuck.set()
        await until(lambda: startup.explain().draining.endswith("it is over"))
        assert len(works.ended) == 10


async def test_those_held_are_refused_at_once_since_they_will_not_be_served() -> None:
    clock = ManualClock()
    async with Startup(clock, policy=TIMES) as startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(App(), startup, clock=clock)
        held = [Caller(gate, http_scope()) for _ in range(3)]
        for caller in held:
            tasks.start_soon(caller.run)
        await until(lambda: gate.held == 3)
        tasks.start_soon(startup.drain)
        await until(lambda: all(caller.status == 503 for caller in held))
        assert (await call(gate, http_scope())).status == 503
        await clock.advance(5.1)
        await until(lambda: startup.explain().draining.endswith("it is over"))


async def test_a_task_that_ends_for_good_in_a_drain_has_nobody_restarted() -> None:
    ends = anyio.Event()
    task = Task("listener", ends.wait, restart=False)
    startup = Orchestrator(ScriptedProbe(), conditions=[task], policy=TIMES)
    async with startup, anyio.create_task_group() as tasks:
        gate = ReadinessGate(App(), startup, health=True)
        with anyio.fail_after(30):
            await startup.wait_for(Stage.READY)
        tasks.start_soon(startup.drain)
        await until(lambda: startup.draining)
        ends.set()
        await until(lambda: bool(startup.down_for_good))
        assert (await call(gate, http_scope("/livez"))).status == 200
        assert (await call(gate, http_scope("/readyz"))).status == 503
        startup.cut_drain_short("the test is over")


async def test_without_a_limit_nothing_is_wrapped_and_a_drain_waits_for_nobody() -> None:
    policy = Policy(grace_seconds=0.0, drain_close_seconds=0.0, drain_limit_seconds=0.0)
    async with Startup(policy=policy) as startup, anyio.create_task_group() as tasks:
        startup.make_ready()
        await startup.wait_for(Stage.READY)
        gate = ReadinessGate(Works(), startup, count_closes=False)
        caller = Caller(gate, websocket_scope())
        tasks.start_soon(caller.run)
        await settled()
        with anyio.fail_after(30):
            await startup.drain()
        assert (await call(gate, http_scope())).status == 503
        assert [message["type"] for message in caller.sent] == ["websocket.accept"]
        with contextlib.suppress(Exception):
            tasks.cancel_scope.cancel()
