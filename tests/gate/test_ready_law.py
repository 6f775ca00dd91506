"""The law of the open gate: it hands on while the service is ready, and counts whatever it does.

In virtual time, on both backends, in every order of becoming ready, falling, draining, being left
and being entered again: what comes is handed to the application if, and only if, the service is
ready at that moment. How many are under way is known at every moment, a response that begins in a
drain is the last on its connection, and a drain ends with the last handler and not before.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import TaskGroup
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator import Policy, Stage
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from orchestrator.testing import ManualClock
from tests.asgi.gate_support import (
    LEAVE,
    Caller,
    Startup,
    http_scope,
    settled,
    websocket_scope,
)

pytestmark = pytest.mark.anyio

TIMES = Policy(
    grace_seconds=0.0,
    drain_announce_seconds=2.0,
    drain_close_seconds=4.0,
    drain_limit_seconds=1000.0,
)


class _Fails(Exception):
    """What a handler raises."""


@dataclass
class _Handlers:
    """The application: its handlers run until they are told to end, each in its own way."""

    startup: Startup
    running: dict[int, anyio.Event] = field(default_factory=dict)
    fails: bool = False
    begun: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        number, ends = self.begun, anyio.Event()
        self.running[number] = ends
        try:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.accept"})
                while (await receive())["type"] != "websocket.disconnect":
                    await send({"type": "websocket.send", "text": "pong"})
            else:
                await ends.wait()
                drains = self.startup.draining
                await send({"type": "http.response.start", "status": 200, "headers": []})
                scope["state"]["drained"] = drains
                await send({"type": "http.response.body", "body": b""})
            if self.fails:
                raise _Fails
        finally:
            del self.running[number]


@dataclass
class _Service:
    """A gate around them, and what it should have done."""

    startup: Startup
    clock: ManualClock
    handlers: _Handlers
    gate: ReadinessGate
    tasks: TaskGroup
    told: list[str]
    callers: list[Caller] = field(default_factory=list)
    asked: int = 0
    entered: bool = True

    async def ask(self, path: str, kind: str) -> None:
        """One comes; judge at once what became of it."""
        startup, begun = self.startup, self.handlers.begun
        # Not `startup.ready`, which is what the gate itself asks.
        open_now = self.entered and startup.stage is Stage.READY and not startup.refuses
        scope = http_scope(path) if kind == "http" else websocket_scope(path)
        caller = Caller(self.gate, {**scope, "state": {}})
        self.tasks.start_soon(caller.run)
        await settled()
        if kind == "http" and path == "/livez":
            assert self.handlers.begun == begun
            # A probe of liveness is answered in every stage; `/livez` itself fails once left.
            assert caller.done.is_set()
            return
        self.asked += 1
        assert self.handlers.begun == begun + open_now, (startup.stage, path, kind)
        if open_now:
            self.callers.append(caller)
        else:
            assert caller.status == 503

    async def end(self, index: int, *, fails: bool) -> None:
        """One ends: an answer, or a client that leaves; or its handler raises."""
        if index >= len(self.callers):
            return
        self.handlers.fails = fails
        caller = self.callers[index]
        if caller.scope["type"] == "websocket":
            caller.give(LEAVE)
        else:
            for ends in self.handlers.running.values():  # those of all requests
                ends.set()
        await settled()
        self.handlers.fails = False
        assert caller.done.is_set()

    def check(self) -> None:
        """What must be true at every moment."""
        handlers, gate = self.handlers, self.gate
        assert gate._in_flight.inside == len(handlers.running)
        assert gate.counts.admitted == handlers.begun
        assert sum(self.gate._admission.admissions().values()) == self.asked
        if self.told:
            assert self.told.count("admitted") == handlers.begun
        for caller in self.callers:
            if caller.scope["type"] == "http" and caller.done.is_set() and caller.sent:
                drained = caller.scope["state"]["drained"]
                assert (caller.headers.get("connection") == "close") is drained
        if self.entered and self.startup.refuses:
            over = self.startup.explain().draining.endswith("it is over")
            assert over is not bool(handlers.running)


@asynccontextmanager
async def _service(*, hook: bool, health: bool, early: bool) -> AsyncGenerator[_Service]:
    clock, told = ManualClock(), list[str]()
    startup = Startup(clock, policy=TIMES)
    handlers = _Handlers(startup)

    def gate() -> ReadinessGate:
        return ReadinessGate(
            handlers,
            startup,
            hold_seconds=0.0,
            health=True if health else bypassed,
            on_admission=told.append if hook else None,
            clock=clock,
        )

    async def bypassed(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    made = gate() if early else None
    async with anyio.create_task_group() as tasks:
        await startup.__aenter__()
        service = _Service(startup, clock, handlers, made or gate(), tasks, told)
        try:
            yield service
        finally:
            if service.entered:
                await startup.__aexit__(None, None, None)
            tasks.cancel_scope.cancel()


steps = st.lists(
    st.one_of(
        st.sampled_from(["ready", "lose", "drain", "leave", "enter"]).map(lambda name: (name,)),
        st.tuples(
            st.just("ask"),
            st.sampled_from(["/chat", "/livez"]),
            st.sampled_from(["http", "websocket"]),
        ),
        st.tuples(st.just("end"), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("advance"), st.sampled_from([0.0, 0.3, 1.5, 5.0])),
    ),
    max_size=30,
)
_ASK, _OPEN = ("ask", "/chat", "http"), ("ask", "/chat", "websocket")
_DRAINED = [("ready",), _ASK, _OPEN, ("drain",), _ASK, ("advance", 5.0), _ASK, ("end", 0, False)]


_CALM = [("ready",), _ASK, ("end", 0, False), ("advance", 5.0)]
"""After which no slots are needed any more, as nobody has waited for a second."""


@example(taken=_DRAINED, calm=True, hook=True, health=True, early=True)
@example(
    taken=[*_DRAINED, ("leave",), _ASK, ("enter",), *_CALM, *_DRAINED],
    calm=False,
    hook=False,
    health=True,
    early=False,
)
@example(
    taken=[_ASK, _OPEN, ("end", 1, True), ("lose",), _ASK],
    calm=True,
    hook=True,
    health=False,
    early=True,
)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    taken=steps,
    calm=st.sampled_from([True, True, False]),
    hook=st.booleans(),
    health=st.booleans(),
    early=st.booleans(),
)
async def test_it_hands_on_while_ready_and_counts_what_it_does(
    taken: list[tuple[object, ...]], calm: bool, hook: bool, health: bool, early: bool
) -> None:
    async with _service(hook=hook, health=health, early=early) as service:
        for step in [*(_CALM if calm else ()), *taken]:
            await _take(service, step)
            await settled()
            service.check()


async def test_the_gate_is_calm_where_the_law_says_so() -> None:
    async with _service(hook=False, health=False, early=True) as service:
        await settled()
        for step in _CALM:
            assert service.gate._turnstile.young
            await _take(service, step)
            await settled()
        assert not service.gate._turnstile.young


async def _take(service: _Service, step: tuple[object, ...]) -> None:
    startup = service.startup
    match step:
        case ("ask", str(path), str(kind)):
            await service.ask(path, kind)
        case ("end", int(index), bool(fails)):
            await service.end(index, fails=fails)
        case ("advance", float(seconds)):
            await service.clock.advance(seconds)
        case ("enter",) if not service.entered:
            await startup.__aenter__()
            service.entered = True
        case ("leave",) if service.entered:
            service.entered = False
            await startup.__aexit__(None, None, None)
        case ("ready",) if service.entered:
            startup.make_ready()
        case ("lose",) if service.entered:
            startup.lose()
        case ("drain",) if service.entered:
            service.tasks.start_soon(startup.drain)
