"""An orchestrator that has ended: every mouth says so, whatever the stage and however it ended."""

import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from orchestrator import Explanation, Orchestrator, Policy, Stage, Stopped
from orchestrator._gate.admission import Admission
from orchestrator._gate.hold_queue import Outcome, Ticket
from orchestrator._http.asgi_types import ASGIApp
from orchestrator.asgi import HEALTH_PATHS, ReadinessGate, health_app, lifespan
from orchestrator.cli._shell.asked import asked_for
from orchestrator.cli.run.run import _Supervisor
from orchestrator.cli.run.run_options import RunOptions
from orchestrator.cli.run.systemd import Notifier
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ManualClock, ScriptedProbe
from orchestrator.web import web_app
from states import Fact, StageChanged, StartupMachine
from tests.asgi.gate_support import App, Caller, http_scope, settled, until, websocket_scope

pytestmark = pytest.mark.anyio

STAGES = ["probing_redis", "grace", "ready", "degraded before ready", "degraded after ready"]


class Service:
    """An orchestrator in a task of its own, as under a server, with all its mouths."""

    def __init__(self, situation: str = "ready", *, enabled: bool = True) -> None:
        self.situation = situation
        self.clock = ManualClock()
        first = {"probing_redis": REFUSED, "degraded before ready": WRONG_PASSWORD}.get(situation)
        self.startup = Orchestrator(
            ScriptedProbe([first]),
            conditions=["listener"],
            clock=self.clock,
            policy=Policy(grace_seconds=1.0),
            enabled=enabled,
        )
        self.page = web_app(self.startup)
        self.app = App()
        self.gate = ReadinessGate(self.app, self.startup, clock=self.clock)
        self.eager = ReadinessGate(App(), self.startup, clock=self.clock, admit_degraded=True)
        self.core = Admission(self.startup, clock=self.clock)  # of `websockets` and aiohttp
        self.health = health_app(self.startup, admit_degraded=True)
        self.scope = anyio.CancelScope()
        self.error: BaseException | None = None
        self.left = anyio.Event()

    async def run(self) -> None:
        """What a server does: it goes on when its lifespan has failed."""
        try:
            with self.scope:
                async with self.startup:
                    await anyio.sleep_forever()
        except Exception as error:  # the test judges it
            self.error = error
        self.left.set()

    async def reach(self) -> None:
        await settled()
        if "ready" in self.situation and "before" not in self.situation:
            self.startup.condition("listener").set(True)
            await self.clock.advance(2.0)
        if "after ready" in self.situation:
            self.startup.condition("listener").set(False)
            await settled()
        assert self.startup.stage is Stage(self.situation.partition(" ")[0])

    async def ask(self, app: ASGIApp, path: str) -> tuple[int | None, dict[str, object]]:
        caller = Caller(app, http_scope(path))
        with anyio.fail_after(30):
            await caller.run()
        assert caller.error is None
        return caller.status, json.loads(caller.body or b"{}")


@asynccontextmanager
async def a_service(situation: str = "ready") -> AsyncGenerator[Service]:
    service = Service(situation)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.run)
        await service.reach()
        yield service
        tasks.cancel_scope.cancel()


async def stop(service: Service, _: pytest.MonkeyPatch) -> str:
    service.startup.stop(reason="maintenance")
    return "the orchestrator was stopped: maintenance"


async def leave(service: Service, _: pytest.MonkeyPatch) -> str:
    service.scope.cancel()
    with anyio.fail_after(30):
        await service.left.wait()
    cancelled = anyio.get_cancelled_exc_class().__name__
    return f"the orchestrator was stopped: it was left with {cancelled}"


async def crash(service: Service, monkeypatch: pytest.MonkeyPatch) -> str:
    def broken(_: StartupMachine, __: Fact) -> StageChanged | None:
        raise KeyError("a secret that must not show")

    monkeypatch.setattr(StartupMachine, "receive", broken)
    service.startup.condition("listener").set(False)
    with anyio.fail_after(30):
        while service.startup.ended is None:
            await anyio.lowlevel.checkpoint()
    assert not service.left.is_set()  # no cancellation of ours reaches the application
    return "the orchestrator's driver ended with KeyError"


async def cancel_driver(service: Service, _: pytest.MonkeyPatch) -> str:
    """Something cancels it: the task alone, which no scope of ours has asked for."""
    life = service.startup._life
    assert life is not None
    life.driver._scope.cancel()
    await settled()
    return "the orchestrator's driver was cancelled"


WAYS: list[Callable[[Service, pytest.MonkeyPatch], Awaitable[str]]] = [
    stop,
    leave,
    crash,
    cancel_driver,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("situation", STAGES)
async def test_all_mouths_say_that_it_has_ended_and_why(
    situation: str,
    way: Callable[[Service, pytest.MonkeyPatch], Awaitable[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_service(situation) as service:
        startup = service.startup
        assert "ended" not in str(startup.explain())
        why = await way(service, monkeypatch)

        assert startup.ended == why
        assert not startup.ready
        assert startup.stage is Stage(situation.partition(" ")[0])  # what it was, as ever
        assert f"ended: {why}" in str(startup.explain())
        for path in HEALTH_PATHS:
            status, body = await service.ask(service.health, path)
            assert (status, body["status"], body["output"]) == (503, "fail", why), path
        assert (await service.ask(service.page, "/state"))[1]["ended"] == why

        for gate in (service.gate, service.eager):
            for scope in (http_scope("/x"), websocket_scope()):
                caller = Caller(gate, scope)
                with anyio.fail_after(30):
                    await caller.run()
                assert caller.status == 503
                assert "The service is stopping." in caller.body.decode()
        assert (await service.core.ask("/x", never)).outcome is Outcome.REFUSED
        assert not service.app.scopes


async def never(_: Ticket) -> None:
    raise AssertionError("it was held")


@pytest.mark.parametrize("way", WAYS)
async def test_those_held_are_refused_and_those_inside_go_on(
    way: Callable[[Service, pytest.MonkeyPatch], Awaitable[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_service("grace") as service, anyio.create_task_group() as tasks:
        held = Caller(service.gate, websocket_scope())
        tasks.start_soon(held.run)
        await settled()
        assert service.gate.held == 1
        await way(service, monkeypatch)
        with anyio.fail_after(30):
            await held.done.wait()
        assert held.status == 503
    monkeypatch.undo()
    async with a_service() as service, anyio.create_task_group() as tasks:
        inside = Caller(service.gate, websocket_scope())
        tasks.start_soon(inside.run)
        await settled()
        await way(service, monkeypatch)
        inside.give({"type": "websocket.receive", "text": "ping"})
        await settled()
        assert inside.sent[-1] == {"type": "websocket.send", "text": "pong"}
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("way", [stop, crash, cancel_driver])
async def test_who_waits_for_a_stage_is_told_at_once(
    way: Callable[[Service, pytest.MonkeyPatch], Awaitable[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with a_service("grace") as service, anyio.create_task_group() as tasks:
        ended = anyio.Event()

        async def wait() -> None:
            with pytest.raises(Stopped):
                await service.startup.wait_for(Stage.READY)
            ended.set()

        tasks.start_soon(wait)
        await settled()
        await way(service, monkeypatch)
        with anyio.fail_after(30):
            await ended.wait()


async def test_one_that_was_never_entered_is_live_and_not_ready() -> None:
    startup = Orchestrator(ScriptedProbe())
    startup.stop()
    service = Service()
    for path, status in {"/livez": 200, "/readyz": 503, "/startupz": 503}.items():
        assert (await service.ask(health_app(startup), path))[0] == status
    assert startup.ended is None
    assert not startup.ready


@pytest.mark.parametrize("leaves", [False, True], ids=["stopped", "left"])
async def test_disabled_it_has_no_say_even_at_the_end(leaves: bool) -> None:
    service = Service(enabled=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.run)
        await settled()
        if leaves:
            service.scope.cancel()
            await service.left.wait()
        else:
            service.startup.stop()
        assert service.startup.ended is None
        assert service.startup.ready
        for path in HEALTH_PATHS:
            assert (await service.ask(service.health, path))[0] == 200
        assert (await service.ask(service.gate, "/x"))[0] == 200
        assert (await service.core.ask("/x", never)).outcome is Outcome.ADMITTED
        tasks.cancel_scope.cancel()


async def test_a_driver_that_failed_is_told_at_once_and_raised_at_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_service() as service:
        await crash(service, monkeypatch)
        await settled()
        assert not service.startup.running
        [line] = [one for one in caplog.records if "by itself" in one.getMessage()]
        assert line.levelname == "ERROR"
        with pytest.raises(BaseExceptionGroup):
            await service.startup.aclose()
        await service.startup.aclose()  # only once


async def test_the_first_reason_stays() -> None:
    async with a_service() as service:
        service.startup.stop()
        service.scope.cancel()
        await settled()
        service.startup.stop()
        assert service.startup.ended == "the orchestrator was stopped: stop() was called"


class Asked(Orchestrator):
    """Counts how often it was asked to explain itself."""

    times = 0

    def explain(self) -> Explanation:
        self.times += 1
        return super().explain()


class Heard(Notifier):
    """A service manager that wants a sign of life."""

    def __init__(self) -> None:
        super().__init__(watchdog_seconds=0.01)
        self.signs = 0

    def send(self, **messages: str | int) -> bool:
        self.signs += "WATCHDOG" in messages
        return True


@pytest.mark.parametrize("stopping", [False, True], ids=["ended by itself", "stopping as told"])
async def test_the_watchdog_of_systemd_gets_no_sign_of_life_of_one_that_has_ended(
    stopping: bool,
) -> None:
    startup, heard = Asked(ScriptedProbe()), Heard()
    supervisor = _Supervisor(
        asked_for(None, None, None, None), startup, RunOptions(command=["true"]), heard
    )
    async with startup, anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor._keep_systemd_informed)
        await until(lambda: heard.signs > 3)
        if stopping:
            supervisor._stop()
        else:
            startup.stop()
        signs, times = heard.signs, startup.times
        await until(lambda: startup.times > times + 5)
        assert (heard.signs > signs) is stopping
        tasks.cancel_scope.cancel()


async def test_a_lifespan_that_fails_is_named_as_the_reason() -> None:
    @asynccontextmanager
    async def inner(_: object) -> AsyncGenerator[None]:
        async with anyio.create_task_group() as tasks:
            yield
            tasks.cancel_scope.cancel()

    for error, said in ((None, "the server shuts down"), (KeyError("hunter2"), "KeyError")):
        startup = Orchestrator(ScriptedProbe("ok"))
        with contextlib.suppress(ExceptionGroup, KeyError):
            async with lifespan(startup, inner)(None):
                if error is not None:
                    raise error
        ended = startup.ended or ""
        assert said in ended
        assert "hunter2" not in ended
