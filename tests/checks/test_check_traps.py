"""Checks that age, hang or flap: what others fell for, and what must hold instead."""

from collections.abc import Callable

import anyio
import pytest

from orchestrator import Check, Probe, ProbeResult, Stage
from orchestrator._core.keeping import Kept, KeptCondition
from orchestrator._gate.health_answers import HealthAnswers
from orchestrator._gate.health_verdict import HealthRules
from orchestrator.checks import call
from orchestrator.testing import ManualClock, ScriptedProbe, virtual_startup

pytestmark = pytest.mark.anyio

FALLEN_SECONDS = 1.2 * 15.0 + 3 * 1.08 + 2 * 0.12
"""The interval with its jitter, three attempts at their full time, and what lies between them."""


class Hangs(Probe):
    """Answers until it hangs, in one of several ways."""

    def __init__(self) -> None:
        self.how = "ok"
        self.let_go = anyio.Event()

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        if self.how == "is cancelled":
            await anyio.sleep_forever()
        elif self.how == "swallows its cancellation":
            with anyio.CancelScope(shield=True):
                await self.let_go.wait()
        elif self.how == "did not run":
            return ProbeResult(timeout_seconds, void=True)
        return ProbeResult(0.0)


@pytest.mark.parametrize("how", ["is cancelled", "swallows its cancellation", "did not run"])
async def test_no_answer_is_kept_beyond_the_interval_and_the_deadlines(how: str) -> None:
    probe = Hangs()
    run = virtual_startup(conditions=[Check("database", probe)])
    async with run.startup as startup:
        await run.clock.advance(1)
        assert startup.stage is Stage.READY
        probe.how = how
        await run.clock.advance(FALLEN_SECONDS)
        assert str(startup.stage) == "degraded"
        reason = startup.explain().conditions["database"].reason
        assert reason.startswith("no result within 1 s; no answer for 2")  # some 20 s
        probe.how = "ok"
        probe.let_go.set()
        await run.clock.advance(5)
        assert str(startup.stage) == "ready"


async def test_a_process_that_was_frozen_asks_before_it_believes_or_gives_up() -> None:
    database = ScriptedProbe("ok")
    run = virtual_startup(conditions=[Check("database", database)])
    async with run.startup as startup:
        await run.clock.advance(1)
        await run.clock.jump(3600)  # frozen for an hour, and all is well
        await run.clock.advance(FALLEN_SECONDS)
        assert Stage.DEGRADED not in run.stages.stages
        database.then("refused")
        await run.clock.jump(3600)  # and again, while the database goes away
        await run.clock.advance(1)
        assert str(startup.stage) == "degraded"


async def test_failures_that_are_not_in_a_row_are_never_added_up() -> None:
    database = ScriptedProbe("ok")
    run = virtual_startup(conditions=[Check("database", database, failures_to_degrade=3)])
    async with run.startup as startup:
        await run.clock.advance(1)
        database.then(", ".join(["ok, refused, refused"] * 8) + ", ok")
        await run.clock.advance(150)
        assert database.attempts > 24
        assert (startup.stage, Stage.DEGRADED in run.stages.stages) == (Stage.READY, False)


async def test_after_a_long_outage_a_return_is_noticed_within_seconds() -> None:
    clock = ManualClock()
    database = ScriptedProbe("ok")
    run = virtual_startup(conditions=[Check("database", database)], clock=clock)
    async with run.startup as startup:
        await clock.advance(1)
        database.then("refused")
        await clock.advance(200)
        database.then("ok")
        await clock.advance(3)
        assert startup.explain().conditions["database"].satisfied


def fails() -> None:
    raise ValueError("hunter2")


async def test_no_request_asks_a_probe_and_none_shows_what_was_raised() -> None:
    database = ScriptedProbe("ok")
    checks = [Check("database", database), Check("disk", call(fails), required=False)]
    run = virtual_startup(conditions=checks)
    answers = HealthAnswers(run.startup, HealthRules())
    async with run.startup as startup:
        await run.clock.advance(1)
        with anyio.fail_after(30):
            while "ValueError" not in startup.explain().conditions["disk"].reason:
                await anyio.sleep(0.001)  # it runs in a thread
        asked = database.attempts
        bodies = {answers.answer("/readyz", "GET", details=True).body for _ in range(20)}
        assert database.attempts == asked
        assert all(b"ended with ValueError" in body for body in bodies)
        assert not any(b"hunter2" in body for body in bodies)


class Keeper(KeptCondition):
    """A condition of somebody's own, whose keeper does not keep to the contract."""

    def __init__(self, ends: Callable[[], None]) -> None:
        super().__init__("own")
        object.__setattr__(self, "ends", ends)

    ends: Callable[[], None]

    async def keep(self, kept: Kept) -> None:
        kept.set(True)
        await anyio.lowlevel.checkpoint()
        self.ends()


@pytest.mark.parametrize(
    ("ends", "reason"),
    [(lambda: None, "its keeper has ended"), (fails, "its keeper ended with ValueError")],
)
async def test_a_condition_that_nobody_keeps_any_more_does_not_hold(
    ends: Callable[[], None], reason: str
) -> None:
    run = virtual_startup(conditions=[Keeper(ends)])
    async with run.startup as startup:
        await run.clock.advance(1)
        assert startup.explain().conditions["own"].reason == f"down for good: {reason}"
        assert startup.needs_restart is not None
