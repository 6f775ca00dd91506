"""Time: the loop's clock, the age of the process, and the manual clock of the test kit."""

import subprocess
import sys
import time

import anyio
import pytest
import trio
import trio.testing

from orchestrator import Orchestrator, Policy, Stage
from orchestrator._runtime.clock import LoopClock, process_age_seconds
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe


def test_the_age_of_the_process_is_what_the_system_says() -> None:
    before = time.monotonic()
    code = (
        "import time; time.sleep(0.2)\n"
        "from orchestrator._runtime.clock import process_age_seconds; print(process_age_seconds())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    age, outside = float(done.stdout), time.monotonic() - before
    assert age <= outside + 0.02
    assert age >= 0.19 if sys.platform == "linux" else age >= 0


@pytest.mark.anyio
async def test_booting_is_dated_back_to_the_start_of_the_process() -> None:
    clock = LoopClock()
    age = clock.now() - clock.started_at()
    assert age == pytest.approx(process_age_seconds(), abs=0.1)


def test_a_virtual_loop_clock_is_virtual_here_too() -> None:
    """Under trio's MockClock a start-up of 20 s takes no real time at all."""

    async def main() -> float:
        probe = ScriptedProbe([REFUSED])
        async with Orchestrator(probe, policy=Policy(grace_seconds=0.5)) as startup:
            await trio.sleep(20)
            probe.then(None)
            event = await startup.wait_for(Stage.READY, timeout_seconds=5)
            return event.elapsed_seconds

    began = time.perf_counter()
    grace = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert grace == pytest.approx(0.5)
    assert time.perf_counter() - began < 5


@pytest.mark.anyio
async def test_the_manual_clock_fires_each_timer_at_its_own_time() -> None:
    clock, fired = ManualClock(10), list[tuple[str, float]]()

    async def sleeper(name: str, seconds: float) -> None:
        with clock.cancel_at(clock.now() + seconds):
            await anyio.sleep_forever()
        fired.append((name, clock.now()))
        if name == "first":
            await sleeper("again", 0.5)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper, "second", 2)
        tasks.start_soon(sleeper, "first", 1)
        tasks.start_soon(sleeper, "late", 9)
        await clock.advance(3)
        assert fired == [("first", 11), ("again", 11.5), ("second", 12)]
        await clock.jump(100)
    assert fired[-1] == ("late", 113)
