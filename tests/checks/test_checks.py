"""Checks in virtual time: a condition holds while its probe gets answers."""

import threading

import anyio
import pytest

from orchestrator import (
    Check,
    ConditionOrderError,
    ConditionSpec,
    DuplicateCondition,
    Orchestrator,
    Policy,
    Probe,
    ProbeResult,
    Stage,
)
from orchestrator.checks import call
from orchestrator.testing import ScriptedProbe, virtual_startup

pytestmark = pytest.mark.anyio


async def test_ready_waits_for_a_check_and_falls_with_it() -> None:
    database = ScriptedProbe("refused x3, ok")
    run = virtual_startup(conditions=[Check("database", database)])
    async with run.startup as startup:
        await run.clock.advance(0.005)
        assert str(startup.stage) == "grace"
        assert "condition database" in str(startup.explain())
        await run.clock.advance(2)
        assert str(startup.stage) == "ready"
        database.then("refused")
        await run.clock.advance(16)
        assert str(startup.stage) == "degraded"
        database.then("ok")
        await run.clock.advance(3)
        assert str(startup.stage) == "ready"


class Watched(ScriptedProbe):
    """As the probes that keep a connection are: it sees changes, and may overrun its time."""

    overtime_seconds = 10.0

    async def changed(self) -> None:
        await anyio.sleep_forever()


async def test_a_short_interval_is_kept_to_and_taken_for_no_blocked_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    probes = [ScriptedProbe("ok"), Watched("ok")]
    checks = [Check(str(n), probe, interval_seconds=1) for n, probe in enumerate(probes)]
    run = virtual_startup(conditions=checks)
    async with run.startup:
        await run.clock.advance(5)
        before = [probe.attempts for probe in probes]
        await run.clock.advance(20)
        assert all(probe.attempts - n >= 18 for probe, n in zip(probes, before, strict=True))
    assert "blocked" not in caplog.text


async def test_one_failure_is_no_fall() -> None:
    database = ScriptedProbe("ok")
    run = virtual_startup(conditions=[Check("database", database, failures_to_degrade=2)])
    async with run.startup as startup:
        await run.clock.advance(1)
        database.then("refused, ok")
        await run.clock.advance(60)
        assert startup.stage is Stage.READY
        assert startup.explain().conditions["database"].since < 1


async def test_the_reason_is_that_of_the_last_failure() -> None:
    run = virtual_startup(conditions=[Check("database", ScriptedProbe("wrong-password"))])
    async with run.startup as startup:
        await run.clock.advance(1)
        assert startup.explain().conditions["database"].reason == "the password is wrong"


async def test_one_that_is_not_required_only_reports() -> None:
    run = virtual_startup(conditions=[Check("billing", ScriptedProbe("refused"), required=False)])
    async with run.startup as startup:
        await run.clock.advance(1)
        assert startup.stage is Stage.READY
        assert not startup.explain().conditions["billing"].satisfied


async def test_a_check_begins_once_what_it_comes_after_holds() -> None:
    asked = ScriptedProbe("ok")
    run = virtual_startup(
        "refused 2s, ok",
        conditions=[Check("database", asked, after=["redis", "vpn"]), "vpn"],
    )
    async with run.startup as startup:
        await run.clock.advance(1)
        assert asked.attempts == 0
        assert startup.explain().conditions["database"].reason == "after redis, vpn"
        await run.clock.advance(2)
        assert startup.explain().conditions["database"].reason == "after vpn"
        startup.condition("vpn").set(True)
        await run.clock.advance(1)
        assert asked.attempts > 0
        assert startup.stage is Stage.READY


class Hung(Probe):
    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        await anyio.sleep_forever()
        raise AssertionError


async def test_a_hundred_checks_run_side_by_side_and_one_that_hangs_disturbs_nobody() -> None:
    checks = [Check(f"check {n}", ScriptedProbe("ok")) for n in range(100)]
    hung = Check("hung", Hung(), required=False)
    run = virtual_startup(conditions=[*checks, hung])
    async with run.startup as startup:
        await run.clock.advance(0.5)
        assert startup.stage is Stage.READY
        await run.clock.advance(60)
        conditions = startup.explain().conditions
        assert [name for name, one in conditions.items() if not one.satisfied] == ["hung"]
        assert "no result within 1 s" in conditions["hung"].reason


class Stubborn(Probe):
    """Hangs, and swallows its cancellation."""

    def __init__(self, release: anyio.Event) -> None:
        self._release = release

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        with anyio.CancelScope(shield=True):
            await self._release.wait()
        return ProbeResult(0.0)


async def test_of_a_hundred_real_checks_those_that_never_return_disturb_nobody() -> None:
    """One blocks a thread for ever, one a task; in real time, on the event loop's own clock."""
    asked, let_go, release = dict.fromkeys(range(98), 0), threading.Event(), anyio.Event()

    def counted(n: int) -> Probe:
        async def ask() -> None:
            asked[n] += 1

        return call(ask)

    checks = [Check(f"check {n}", counted(n), interval_seconds=0.2) for n in asked]
    hung = [
        Check("thread", call(let_go.wait), required=False, timeout_seconds=0.2),
        Check("task", Stubborn(release), required=False, timeout_seconds=0.2),
    ]
    startup = Orchestrator(
        ScriptedProbe(), conditions=[*checks, *hung], policy=Policy(grace_seconds=0)
    )
    try:
        async with startup:
            await startup.wait_for(Stage.READY, timeout_seconds=30)
            while min(asked.values()) < 4:
                await anyio.sleep(0.05)
            conditions = startup.explain().conditions
            down = [name for name, one in conditions.items() if not one.satisfied]
            assert down == ["thread", "task"]
            assert startup.stage is Stage.READY
            release.set()
    finally:
        let_go.set()


async def test_it_is_asked_again_in_the_next_start_up() -> None:
    run = virtual_startup(conditions=[Check("database", ScriptedProbe("ok"))])
    for _ in range(2):
        async with run.startup as startup:
            await run.clock.advance(1)
            assert startup.stage is Stage.READY


def test_no_condition_has_the_name_of_the_probe() -> None:
    for condition in ("redis", Check("redis", ScriptedProbe("ok"))):
        with pytest.raises(DuplicateCondition, match="'redis' names the orchestrator's own probe"):
            virtual_startup(conditions=[condition])


async def test_nothing_else_can_set_it() -> None:
    run = virtual_startup(conditions=[Check("database", ScriptedProbe("ok"))])
    async with run.startup as startup:
        with pytest.raises(DuplicateCondition, match="held by the Check"):
            startup.condition("database").set(True)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (["nowhere"], "'a' comes after 'nowhere', which was never declared"),
        (["a"], "in a circle: 'a' after 'a'"),
        (["b"], "in a circle: 'a' after 'b' after 'a'|in a circle: 'b' after 'a' after 'b'"),
    ],
)
def test_an_order_that_cannot_be_is_refused_when_it_is_declared(
    after: list[str], said: str
) -> None:
    probe = ScriptedProbe("ok")
    with pytest.raises(ConditionOrderError, match=said):
        virtual_startup(conditions=[Check("a", probe, after=after), Check("b", probe, after=["a"])])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds is 0; it must be a number above 0"),
        ({"interval_seconds": -1.0}, "interval_seconds is -1.0; it must be a number above 0"),
        ({"failures_to_degrade": 0}, "failures_to_degrade is 0; it must be a whole number"),
        ({"after": "redis"}, "after must be a list of names, not str"),
        ({"required": "yes"}, "required must be a bool, not str"),
    ],
)
def test_what_cannot_work_is_refused_by_name(wrong: dict[str, object], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Check("database", ScriptedProbe("ok"), **wrong)  # type: ignore[arg-type]  # as a user may


def test_a_check_needs_a_probe() -> None:
    with pytest.raises(TypeError, match="probe must be a Probe, not str"):
        Check("database", "postgresql://secret@db")  # type: ignore[arg-type]  # as a user may
    assert isinstance(Check("database", ScriptedProbe("ok")), ConditionSpec)
