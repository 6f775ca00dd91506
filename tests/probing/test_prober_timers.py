"""The attempts of a prober on the event loop's own clock, where a timer begins each of them."""

import contextlib
import time

import anyio
import anyio.lowlevel
import pytest

from orchestrator import Check, Orchestrator, Policy, Probe, ProbeResult, Stage
from orchestrator._probing.shared_turns import Turns
from orchestrator.testing import ScriptedProbe
from tests.asgi.gate_support import until

pytestmark = pytest.mark.anyio

SECONDS = 0.05


class Timed(Probe):
    """Answers at once, hangs, or swallows its cancellation; says when it was asked."""

    def __init__(self) -> None:
        self.asked_at: list[float] = []
        self.manner = "answer"
        self.released = anyio.Event()

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        self.asked_at.append(anyio.current_time())
        await anyio.lowlevel.checkpoint()
        if self.manner == "hang":
            await anyio.sleep_forever()
        while self.manner == "ignore" and not self.released.is_set():
            with contextlib.suppress(BaseException), anyio.CancelScope(shield=True):
                await self.released.wait()
        return ProbeResult(0.0)


def orchestrator(probe: Probe) -> Orchestrator:
    check = Check(
        "it", probe, interval_seconds=SECONDS, timeout_seconds=SECONDS, failures_to_degrade=2
    )
    return Orchestrator(ScriptedProbe(), conditions=[check], policy=Policy(grace_seconds=0))


async def test_attempts_are_as_far_apart_as_was_asked() -> None:
    probe = Timed()
    async with orchestrator(probe):
        await until(lambda: len(probe.asked_at) >= 8)
    gaps = [
        later - sooner for sooner, later in zip(probe.asked_at, probe.asked_at[1:], strict=False)
    ]
    # The first two are that of the start, and one drawn from the whole interval.
    assert min(gaps[2:]) > 0.7 * SECONDS, "no attempt comes early, but for the grid"


async def test_one_that_hangs_is_failed_in_time_and_asked_again() -> None:
    probe = Timed()
    async with orchestrator(probe) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=10)
        probe.manner = "hang"
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=10)
        assert "no result within 0.05 s" in startup.explain().conditions["it"].reason
        probe.manner = "answer"
        await startup.wait_for(Stage.READY, timeout_seconds=10)


async def test_one_that_ignores_its_cancellation_is_failed_until_it_returns() -> None:
    probe = Timed()
    async with orchestrator(probe) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=10)
        probe.manner = "ignore"
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=10)
        asked = len(probe.asked_at)
        await anyio.sleep(3 * SECONDS)
        assert len(probe.asked_at) == asked, "one attempt at a time"
        probe.manner = "answer"
        probe.released.set()
        await startup.wait_for(Stage.READY, timeout_seconds=10)


async def test_a_loop_that_was_blocked_makes_up_for_nothing() -> None:
    probe = Timed()
    async with orchestrator(probe) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=10)
        asked = len(probe.asked_at)
        time.sleep(6 * SECONDS)
        await anyio.lowlevel.checkpoint()
        assert len(probe.asked_at) <= asked + 1
        await until(lambda: len(probe.asked_at) > asked + 2)
        await startup.wait_for(Stage.READY, timeout_seconds=10)


async def test_nothing_begins_once_it_was_left() -> None:
    probe = Timed()
    async with orchestrator(probe):
        await until(lambda: len(probe.asked_at) >= 2)
    asked = len(probe.asked_at)
    await anyio.sleep(3 * SECONDS)
    assert len(probe.asked_at) == asked


async def test_a_pause_of_the_process_just_after_an_answer_does_not_end_the_asking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    after, answers = Turns.after, 0

    def paused(turns: Turns, at: float) -> float:
        nonlocal answers
        due_at = after(turns, at)
        answers += 1
        if answers == 3:
            time.sleep(3 * SECONDS)  # so that the next moment has passed before it is waited for
        return due_at

    monkeypatch.setattr(Turns, "after", paused)
    probe = Timed()
    async with orchestrator(probe):
        await until(lambda: len(probe.asked_at) >= 8)
