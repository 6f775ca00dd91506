"""What falls and comes back without changing the stage has a line of its own, but not too many."""

import logging

import pytest

from orchestrator import ConditionSpec, Policy, Stage
from orchestrator.testing import virtual_startup

pytestmark = pytest.mark.anyio


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """All but the changes of stage and the account, each with its level."""
    return [
        f"{one.levelname} {one.getMessage()}"
        for one in caplog.records
        if one.name == "orchestrator"
        and " -> " not in one.getMessage()
        and "ready after" not in one.getMessage()
        and one.levelno > logging.DEBUG
    ]


async def test_an_optional_condition_that_falls_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    run = virtual_startup(conditions=[ConditionSpec("billing", required=False), "cache"])
    async with run.startup as startup:
        billing, cache = startup.condition("billing"), startup.condition("cache")
        billing.set(False, reason="connection refused")  # it never held: nothing has fallen
        cache.set(True)
        await run.clock.advance(1)
        assert startup.stage is Stage.READY
        billing.set(True)
        await run.clock.advance(1)
        billing.set(False, reason="connection refused")
        await run.clock.advance(1)
        billing.set(False, reason="no answer")  # another reason is no other state
        await run.clock.advance(1)
        cache.set(False, reason="cold")  # this is the stage's line
        await run.clock.advance(1)
        assert str(startup.stage) == "degraded"
        billing.set(True)
        await run.clock.advance(1)
    assert lines(caplog) == [
        "WARNING condition billing is lost: connection refused",
        "INFO condition billing holds again",
    ]


async def test_a_redis_that_fails_while_a_condition_is_missing_already(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    run = virtual_startup(conditions=["listener"])
    async with run.startup as startup:
        startup.condition("listener").set(True)
        await run.clock.advance(1)
        # Redis is killed: its listener notices first.
        startup.condition("listener").set(False, reason="its task ended with ConnectionError")
        run.redis.then("refused")
        await run.clock.advance(30)
        run.redis.then("ok")
        await run.clock.advance(30)
        assert startup.stage is Stage.DEGRADED
    assert lines(caplog) == [
        "WARNING Redis does not answer: nothing listens there",
        "INFO Redis answers again",
    ]


async def test_a_redis_that_is_late_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = virtual_startup("refused 10s, ok")
    async with run.startup as startup:
        await run.clock.advance(20)
        assert startup.stage is Stage.READY
        run.redis.then("refused, ok")  # a single failure says little while it is ready
        await run.clock.advance(60)
    assert lines(caplog) == ["INFO Redis does not answer yet: nothing listens there"]


async def test_one_that_flaps_does_not_fill_the_log_and_its_end_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    policy = Policy(probe_interval_seconds=5.0)
    billing = ConditionSpec("billing", required=False)
    run = virtual_startup(policy=policy, conditions=[billing])
    async with run.startup as startup:
        await run.clock.advance(1)
        for step in range(1, 400):  # 200 s of it
            startup.condition("billing").set(step % 2 == 1, reason=f"reason {step}")
            await run.clock.advance(0.5)
        flapped = lines(caplog)
        assert len(flapped) == 6 + 3
        assert all("keeps changing" in line for line in flapped[6:])
        await run.clock.advance(200)
        assert lines(caplog)[-1].endswith("more times, and holds now")
        startup.condition("billing").set(False, reason="gone")  # calm again: a line of its own
        await run.clock.advance(1)
        assert lines(caplog)[-1] == "WARNING condition billing is lost: gone"
        assert len(lines(caplog)) == 11
