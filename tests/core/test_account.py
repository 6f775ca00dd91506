"""Where a start went: steps that add up to the time to ready, whatever happened on the way."""

import logging
import re
import threading

import anyio
import pytest
from anyio.abc import TaskStatus
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import (
    Account,
    BootFinished,
    Check,
    ConditionChanged,
    ConditionSpec,
    Failure,
    FailureKind,
    Orchestrator,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StartupContext,
    StartupMachine,
    StepKind,
    Target,
    Task,
    TimerFired,
)
from orchestrator._core.account_book import AccountBook
from orchestrator._runtime import clock as runtime_clock
from orchestrator.testing import ManualClock, ScriptedProbe, virtual_startup
from states import Fact
from tests.core.account_support import adds_up

pytestmark = pytest.mark.anyio

REFUSED = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "connection refused")


def spent(account: Account) -> dict[str, float]:
    return {step.name: round(step.seconds, 3) for step in account.critical}


async def test_the_steps_to_ready_and_what_ran_beside_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    listening = anyio.Event()

    async def listen(*, task_status: TaskStatus[None]) -> None:
        await listening.wait()
        task_status.started()
        await anyio.sleep_forever()

    run = virtual_startup(
        "refused 400ms, ok",
        policy=Policy(grace_seconds=0.5),
        age_seconds=3.9,
        conditions=[
            Task("listener", listen, after=["redis", "database"]),
            "database",
            "cache",
            ConditionSpec("billing", required=False),
        ],
    )
    async with run.startup as startup:
        await run.clock.advance(0.2)
        so_far = startup.account()
        assert not so_far.ready
        assert adds_up(so_far)
        assert spent(so_far) == {"imports": 3.9, "redis": 0.2}
        assert str(so_far).startswith("not ready after 4.1 s: imports 3.9 s, redis 0.2 s (so far)")
        assert "listener not begun (after redis, database)" in str(so_far)
        startup.condition("cache").set(True)
        await run.clock.advance(1.6)
        startup.condition("database").set(True)
        await run.clock.advance(0.3)
        assert spent(startup.account()) == {"imports": 3.9, "database": 1.8, "listener": 0.3}
        listening.set()
        await run.clock.advance(0.1)
        assert startup.stage is Stage.READY
        account = startup.account()
        assert spent(account) == {"imports": 3.9, "database": 1.8, "listener": 0.3}
        assert account.last_to_hold == "listener"
        beside = {step.name: round(step.seconds, 1) for step in account.beside}
        assert beside == {"redis": 0.4, "cache": 0.2, "grace": 0.5, "billing": 2.1}
        assert adds_up(account)
        line = "ready after 6.0 s: imports 3.9 s, database 1.8 s, listener 0.3 s (last to hold)"
        assert str(account).startswith(line)
        assert str(account).endswith("billing does not hold yet (optional), grace 0.5 s")
        await run.clock.advance(5)
        run.redis.then("refused 20s, ok")
        await run.clock.advance(40)
        assert Stage.DEGRADED in run.stages.stages
        assert startup.account() is account  # an outage later does not change it
    assert startup.account() is account
    assert [text for text in caplog.messages if text.startswith("ready after")] == [str(account)]


async def test_without_conditions_grace_ends_the_start() -> None:
    run = virtual_startup(policy=Policy(grace_seconds=0.5), age_seconds=2.0)
    assert run.startup.account().steps == ()
    async with run.startup as startup:
        await run.clock.advance(1)
        assert spent(startup.account()) == {"imports": 2.0, "redis": 0.0, "grace": 0.5}
        assert startup.account().beside == ()
    async with run.startup as startup:  # entered again: a new account, without imports
        await run.clock.advance(1)
        assert spent(startup.account()) == {"redis": 0.0, "grace": 0.5}
        assert adds_up(startup.account())


async def test_a_process_that_has_lived_for_long_did_not_import_for_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def first_step(age_seconds: float) -> str:
        run = virtual_startup(age_seconds=age_seconds)
        async with run.startup as startup:
            return startup.account().steps[0].name

    assert await first_step(3.0) == "imports"
    assert await first_step(300.0) == "before entering"
    monkeypatch.setattr("sys.ps1", ">>> ", raising=False)
    assert await first_step(3.0) == "before entering"


async def test_a_process_that_slept_before_it_entered_did_not_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def first_step(age_seconds: float) -> str:
        monkeypatch.setattr(runtime_clock, "process_age_seconds", lambda: age_seconds)
        async with Orchestrator(ScriptedProbe("ok")) as startup:  # on the event loop's own clock
            return startup.account().steps[0].name

    monkeypatch.setattr("time.process_time", lambda: 2.0)
    assert await first_step(10.0) == "imports"
    assert await first_step(30.0) == "before entering"  # as after `sleep 28; exec uvicorn`


async def test_a_start_that_was_degraded_first_has_an_account_too() -> None:
    clock = ManualClock()
    run = virtual_startup(
        policy=Policy(budget_seconds=5.0, grace_seconds=0.5),
        conditions=[Check("database", ScriptedProbe("refused 20s, ok", clock=clock))],
        clock=clock,
    )
    async with run.startup as startup:
        await run.clock.advance(60)
        account = startup.account()
        assert startup.stage is Stage.READY
        assert [step.name for step in account.critical] == ["database", "grace"]
        assert account.seconds > 5
        assert adds_up(account)


async def test_the_main_probe_has_the_name_of_what_it_asks() -> None:
    class Postgres(ScriptedProbe):
        @property
        def target(self) -> Target:
            return Target(system="postgresql")

    clock = ManualClock()
    async with Orchestrator(Postgres("ok"), clock=clock) as startup:
        await clock.advance(1)
        assert startup.account().steps[0].name == "postgresql"
        assert startup.account().steps[0].kind is StepKind.PROBE


async def test_a_disabled_orchestrator_has_one_without_conditions() -> None:
    clock = ManualClock(age_seconds=2.0)
    startup = Orchestrator(ScriptedProbe("refused"), conditions=["a"], clock=clock, enabled=False)
    async with startup:
        await clock.advance(1)
        assert startup.account().ready
        assert startup.account().seconds == 2.0


async def test_one_that_is_stopped_before_ready_stays_as_it_was() -> None:
    run = virtual_startup("refused")
    async with run.startup as startup:
        await run.clock.advance(3)
    await run.clock.advance(3)
    assert (startup.account().seconds, startup.account().ready) == (3.0, False)


async def test_it_can_be_read_in_any_thread() -> None:
    run = virtual_startup("refused", conditions=["a"])
    found: list[Account] = []
    async with run.startup as startup:
        await run.clock.advance(3)
        thread = threading.Thread(target=lambda: found.append(startup.account()))
        thread.start()
        thread.join()
    assert spent(found[0]) == {"redis": 3.0}


NAMES = ["a", "b", "c", "d"]
AFTER = {"b": ("redis", "a"), "c": ("b",), "d": ("a", "c")}
facts = st.lists(
    st.tuples(
        st.floats(0, 3, allow_nan=False),
        st.sampled_from(["ok", "fails", "timer", *NAMES, *(f"-{name}" for name in NAMES)]),
    ),
    max_size=30,
)


def made(what: str, at: float) -> Fact:
    match what:
        case "ok":
            return ProbeSucceeded(at, 0.0)
        case "fails":
            return ProbeFailed(at, 0.0, REFUSED)
        case "timer":
            return TimerFired(at)
    return ConditionChanged(at, what.removeprefix("-"), not what.startswith("-"))


@settings(max_examples=60, deadline=None)
@given(story=facts, age=st.sampled_from([0.0, 0.1, 3.7]), optional=st.booleans())
def test_whatever_happens_the_critical_steps_are_exactly_the_time_to_ready(
    story: list[tuple[float, str]], age: float, optional: bool
) -> None:
    required = {name: not (optional and name == "c") for name in NAMES}
    policy = Policy(grace_seconds=0.3, stall_seconds=10.0)
    machine, book = StartupMachine(policy, required, 0.1), AccountBook()
    book.started(StartupContext(policy, Target(), required, 0.1, 0.1 + age, 10**18, after=AFTER))
    at = 0.1 + age
    # In the end all is well, so that each story has an account.
    endings = [(1.0, name) for name in [*NAMES, "ok", "ok", "ok"]]
    for seconds, what in [(0.0, "boot"), *story, *endings]:
        at += seconds
        fact = BootFinished(at) if what == "boot" else made(what, at)
        book.observed(fact, machine.receive(fact))
        account = book.account(at + 0.5)
        assert adds_up(account)
        assert account.ready == machine.was_ready
        shown = str(account).partition(";")[0]
        total, *parts = (round(float(one) * 1000) for one in re.findall(r"([\d.]+) s", shown))
        assert sum(parts) == total  # what is shown adds up, too
    assert book.account(at).ready
    assert all(step.done for step in book.account(at).critical)
