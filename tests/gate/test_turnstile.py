"""How long the release lasts, how many slots there are, and whose turn it is."""

import asyncio
import math

import anyio
import anyio.abc
import pytest

from orchestrator._gate.turnstile import Turnstile
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from orchestrator.testing import ManualClock
from tests.asgi.gate_support import (
    EMPTY,
    App,
    Caller,
    Startup,
    http_scope,
    settled,
    websocket_scope,
)
from tests.gate.release_shapes import CountedPool, handler_number, respond

pytestmark = pytest.mark.anyio

SLOTS = 2


class Service:
    """A gate with two slots, and what its handlers and clients wait with."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.tasks = tasks
        self.clock = ManualClock()
        self.pool = CountedPool(SLOTS, lambda: self.pause(1.0))

    async def pause(self, seconds: float) -> None:
        with self.clock.cancel_at(self.clock.now() + seconds):
            await anyio.sleep_forever()

    def gate(self, startup: Startup, app: ASGIApp, **options: float) -> ReadinessGate:
        defaults = {"hold_seconds": 60.0}
        self.turnstile: Turnstile
        gate = ReadinessGate(
            app,
            startup,
            release_batch=SLOTS,
            clock=self.clock,
            **(defaults | options),  # type: ignore[arg-type]  # each is a number
        )
        self.turnstile = gate._admission.turnstile
        return gate

    async def chat(self, _: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            await self.pause(1.0)
            await send({"type": "websocket.send", "text": "an answer"})

    async def page(self, _: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await self.pause(1.0)
        await respond(send)

    async def until_over(self, seconds: float) -> None:
        """The release ends in time, though the service is busy."""
        until = self.clock.now() + seconds
        while self.turnstile.young:
            assert self.clock.now() < until
            await self.clock.advance(0.25)


def talkative(caller: Caller) -> Send:
    """The `send` of a client that says something as soon as it has an answer."""

    async def send(message: Message) -> None:
        await caller.send(message)
        if message["type"] in ("websocket.accept", "websocket.send"):
            caller.give({"type": "websocket.receive", "text": "more"})

    return send


async def test_early_clients_that_go_on_talking_do_not_prolong_the_release_for_ever() -> None:
    async with Startup() as startup, anyio.create_task_group() as tasks:
        service = Service(tasks)
        gate = service.gate(startup, service.chat)
        for _ in range(3 * SLOTS):
            caller = Caller(gate, websocket_scope())
            tasks.start_soon(gate, caller.scope, caller.receive, talkative(caller))
        await settled()
        startup.make_ready()
        await settled()
        await service.until_over(60)
        tasks.cancel_scope.cancel()


async def test_no_slots_are_added_while_an_early_client_has_not_had_its_turn() -> None:
    """However many others come, and however long it takes."""
    async with Startup() as startup, anyio.create_task_group() as tasks:
        service = Service(tasks)
        gate = service.gate(startup, service.page)
        early = [Caller(gate, http_scope()) for _ in range(20 * SLOTS)]
        for caller in early:
            tasks.start_soon(caller.run)
        await settled()
        startup.make_ready()
        await settled()
        while not all(caller.sent for caller in early):
            assert service.turnstile._release.slots == SLOTS
            tasks.start_soon(Caller(gate, http_scope()).run)
            await service.clock.advance(0.5)
        assert 20 <= service.clock.now() < 25
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("options", [{"hold_seconds": 0}, {"max_held": 0}, {"hold_seconds": 0.01}])
async def test_a_ready_service_refuses_nobody_for_ever_where_few_may_wait(
    options: dict[str, float],
) -> None:
    async with Startup() as startup, anyio.create_task_group() as tasks:
        service = Service(tasks)
        gate = service.gate(startup, service.page, **options)
        startup.make_ready()
        await settled()

        async def come_again_and_again() -> None:
            while True:
                caller = Caller(gate, http_scope())
                await caller.run()
                refused = caller.status == 503
                await service.pause(float(caller.headers["retry-after"]) if refused else 0.01)

        for _ in range(3 * SLOTS):
            tasks.start_soon(come_again_and_again)
        await service.until_over(90)
        tasks.cancel_scope.cancel()


async def test_failures_that_go_on_do_not_prolong_the_release_for_ever() -> None:
    async with Startup() as startup, anyio.create_task_group() as tasks:
        service = Service(tasks)
        gate = service.gate(startup, service.chat)
        for _ in range(3 * SLOTS):
            caller = Caller(gate, websocket_scope())
            tasks.start_soon(gate, caller.scope, caller.receive, talkative(caller))
        startup.make_ready()
        await settled()

        async def fail() -> None:
            while True:
                await service.pause(5.0)
                service.turnstile.failed()

        tasks.start_soon(fail)
        await service.until_over(90)
        tasks.cancel_scope.cancel()


async def test_an_outage_takes_back_the_slots_that_were_added() -> None:
    async with Startup() as startup, anyio.create_task_group() as tasks:
        service = Service(tasks)
        gate = service.gate(startup, service.page)
        startup.make_ready()
        await settled()

        async def come_again_and_again() -> None:
            while startup.ready:
                await Caller(gate, http_scope()).run()

        for _ in range(8 * SLOTS):
            tasks.start_soon(come_again_and_again)
        while service.turnstile._release.slots < SLOTS + 2:
            await service.clock.advance(1.0)
        startup.lose()
        await settled()
        assert service.turnstile.young
        assert service.turnstile._release.slots == SLOTS
        tasks.cancel_scope.cancel()


async def test_the_pace_stays_when_the_gate_is_stopped_in_the_middle_of_a_release() -> None:
    async with Startup() as startup, anyio.create_task_group() as tasks:
        service = Service(tasks)

        async def app(_: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await receive()
            handler_number.set(id(receive))
            async with service.pool.connection():
                await send({"type": "websocket.send", "text": "an answer"})
            await receive()

        gate = service.gate(startup, app)
        callers = [Caller(gate, websocket_scope()) for _ in range(4 * SLOTS)]
        for caller in callers:
            tasks.start_soon(caller.run)
        await settled()
        startup.make_ready()
        await settled()
        for caller in callers:
            caller.give({"type": "websocket.receive", "text": "a message"})
        gate.stop()
        await service.clock.advance(10.0)
        assert service.pool.failed == 0
        assert [len(caller.sent) for caller in callers] == [2] * len(callers)
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("cancelled", ["the first", "the second", "neither"])
async def test_two_tasks_may_wait_for_a_slot_with_one_websocket(cancelled: str) -> None:
    """No message is lost and no turn, whichever of them stops waiting."""
    got: list[str] = []
    scopes = [anyio.CancelScope(), anyio.CancelScope()]
    go, other_ends = anyio.Event(), anyio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        if scope["path"] == "/works":
            await other_ends.wait()
            return

        async def receive_one(cancel_scope: anyio.CancelScope) -> None:
            with cancel_scope:
                got.append((await receive())["text"])

        with anyio.move_on_after(0):
            await receive()  # the unit is over
        async with anyio.create_task_group() as inside:
            await go.wait()
            for cancel_scope in scopes:
                inside.start_soon(receive_one, cancel_scope)

    message = {"type": "websocket.receive", "text": "first"}
    async with Startup() as startup, anyio.create_task_group() as tasks:
        clock = ManualClock()
        gate = ReadinessGate(app, startup, release_batch=1, clock=clock)
        works, waits = (Caller(gate, websocket_scope(path)) for path in ("/works", "/waits"))
        for caller in (waits, works):
            tasks.start_soon(caller.run)
            await settled()
        startup.make_ready()
        await settled()
        for caller in (waits, works):
            caller.give(message)
            await settled()
        waits.give(message)
        go.set()
        await settled()
        if cancelled != "neither":
            scopes[cancelled == "the second"].cancel()
        other_ends.set()
        await settled()
        waits.give({"type": "websocket.receive", "text": "second"})
        await clock.advance(1.0)
        assert got == (["first", "second"] if cancelled == "neither" else ["first"])
        tasks.cancel_scope.cancel()


async def test_a_handler_that_stops_waiting_again_and_again_keeps_its_place() -> None:
    async with Startup() as startup, anyio.create_task_group() as tasks:
        service = Service(tasks)
        served: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            message: Message | None = None
            while message is None:
                waits = 0.1 if scope["path"] == "/stops" else math.inf
                with service.clock.cancel_at(service.clock.now() + waits):
                    message = await receive()
            served.append(scope["path"])
            await service.pause(1.0)

        gate = service.gate(startup, app)
        paths = ["/waits"] * 4 + ["/stops"] + ["/waits"] * 20
        callers = [Caller(gate, websocket_scope(path)) for path in paths]
        for caller in callers:
            tasks.start_soon(caller.run)
        await settled()
        startup.make_ready()
        await settled()
        for caller in callers:
            caller.give({"type": "websocket.receive", "text": "a message"})
            await settled()
        await service.clock.advance(4.0)
        assert "/stops" in served
        tasks.cancel_scope.cancel()


async def test_an_upload_on_its_way_needs_no_slot() -> None:
    """Neither before its first part has arrived, nor between two."""
    async with Startup() as startup, anyio.create_task_group() as tasks:
        clock, app = ManualClock(), App()
        gate = ReadinessGate(app, startup, release_batch=SLOTS, clock=clock)
        slow = [Caller(gate, http_scope("/upload", "POST")) for _ in range(4 * SLOTS)]
        quick = [Caller(gate, http_scope("/upload", "POST")) for _ in range(4 * SLOTS)]
        for number, caller in enumerate(slow):
            caller.give_only(
                *({"type": "http.request", "body": b"x", "more_body": True},) * (number % 2)
            )
        for caller in (*slow, *quick):
            tasks.start_soon(caller.run)
            await settled()
        startup.make_ready()
        await settled()
        assert [caller.status for caller in quick] == [200] * len(quick)
        for caller in slow:
            caller.give(EMPTY)
        await settled()
        assert [caller.status for caller in slow] == [200] * len(slow)
        tasks.cancel_scope.cancel()


async def test_nothing_is_learned_from_one_path_for_another() -> None:
    """Long polls and pushes that keep their slots to the last cut nobody else's work short."""
    async with Startup() as startup, anyio.create_task_group() as tasks:
        service = Service(tasks)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            if scope["path"].startswith("/poll"):
                await service.pause(25.0)
            if scope["path"] == "/events":
                await send({"type": "http.response.start", "status": 200, "headers": []})
                await anyio.sleep_forever()
            if scope["path"] == "/page":
                handler_number.set(id(receive))
                async with service.pool.connection():
                    pass
            await respond(send)

        gate = service.gate(startup, app)
        paths = [f"/poll/{number}" for number in range(4)] + ["/events"] * 2 + ["/page"] * 10
        callers = [Caller(gate, http_scope(path)) for path in paths]
        for caller in callers:
            tasks.start_soon(caller.run)
            await settled()
        startup.make_ready()
        await settled()
        await service.clock.advance(40.0)
        assert service.pool.failed == 0
        assert [caller.status for caller in callers] == [200] * len(callers)
        tasks.cancel_scope.cancel()


def test_a_second_event_loop_hears_nothing_of_the_first_one() -> None:
    """That was closed without leaving the orchestrator."""

    async def begin() -> None:
        await startup.start()
        await asyncio.sleep(0)

    async def use() -> int | None:
        async with startup:
            caller = Caller(gate, http_scope())
            await caller.run()
            return caller.status

    startup = Startup(enabled=False)
    clock = ManualClock()
    gate = ReadinessGate(App(), startup, clock=clock, stop_on_sigterm=False)
    first = asyncio.new_event_loop()
    first.run_until_complete(begin())
    left_over = asyncio.all_tasks(first)
    first.close()
    assert asyncio.run(use()) == 200
    assert left_over  # not collected before
