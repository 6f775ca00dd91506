"""The drain of a start-up: one clock, whoever asks; nothing that takes part can hold it up."""

import logging
import sys
import threading
from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from orchestrator import (
    DrainBegan,
    Fact,
    NotRunning,
    Observer,
    Orchestrator,
    Policy,
    Stage,
    StageChanged,
)
from orchestrator.testing import ManualClock, ScriptedProbe, virtual_startup

SECONDS = 30.0
"""No wait here takes so long, unless it fails."""

TIMES = Policy(
    grace_seconds=0.0,
    failures_to_degrade=1,
    drain_announce_seconds=5.0,
    drain_close_seconds=10.0,
    drain_limit_seconds=25.0,
)


class Gate:
    """Something with requests to end, which says when it was asked to."""

    def __init__(self, clock: ManualClock, takes_seconds: float = 0.0) -> None:
        self.clock, self.takes_seconds = clock, takes_seconds
        self.told: list[tuple[str, float]] = []
        self.inside = 1

    @property
    def awaits(self) -> bool:
        return False

    async def drain_announced(self) -> None:
        self.told.append(("began", self.clock.now()))

    async def wind_down(self, close_seconds: float) -> None:
        assert close_seconds == TIMES.drain_close_seconds
        self.told.append(("close", self.clock.now()))
        with self.clock.cancel_at(self.clock.now() + self.takes_seconds):
            await anyio.sleep_forever()
        self.inside = 0
        self.told.append(("ended", self.clock.now()))


async def settled(until: Callable[[], bool]) -> None:
    with anyio.fail_after(SECONDS):
        while not until():
            await anyio.lowlevel.checkpoint()


@pytest.mark.anyio
async def test_it_is_announced_then_refuses_and_is_over_once_all_has_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "orchestrator")
    run = virtual_startup(policy=TIMES)
    startup, clock = run.startup, run.clock
    gate = Gate(clock, takes_seconds=7.0)
    startup.drain_with(gate)
    with pytest.raises(NotRunning):
        await startup.drain()
    async with startup:
        await startup.wait_for(Stage.READY)
        began_at = clock.now()
        assert not startup.draining
        assert "draining" not in str(startup.explain())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(startup.drain, "SIGTERM")
            await settled(lambda: startup.draining)
            assert startup.ready, "new requests are still served"
            assert "draining: SIGTERM, 0.0 s ago; new requests are served for 5.0 s more" in str(
                startup.explain()
            )
            await clock.advance(4.9)
            assert [what for what, _ in gate.told] == ["began"]
            await clock.advance(0.2)
            assert startup.refuses
            assert "under way: 1; it ends within 19.9 s" in startup.explain().draining
            await clock.advance(6.8)
            assert [what for what, _ in gate.told] == ["began", "close"]
            await clock.advance(0.2)
        assert startup.explain().draining.endswith("it is over")
        await startup.drain("again")  # it is over already
        at = [round(at - began_at, 3) for _, at in gate.told]
        assert at == [0.0, 5.0, 12.0]
        assert startup.stage is Stage.READY
    assert "drained after 12.00 s" in caplog.text


@pytest.mark.anyio
async def test_what_falls_in_a_drain_is_no_outage_and_the_fact_is_taken_once() -> None:
    facts: list[Fact] = []

    class Remembers(Observer):
        def observed(self, fact: Fact, changed: StageChanged | None) -> None:
            facts.append(fact)

    run = virtual_startup(policy=TIMES, conditions=["listener"])
    startup, clock = run.startup, run.clock
    startup.observe(Remembers())
    startup.drain_with(Gate(clock, takes_seconds=10.0))
    async with startup:
        startup.condition("listener").set(True)
        await startup.wait_for(Stage.READY)
        async with anyio.create_task_group() as tasks:
            for reason in ("SIGTERM", "SIGTERM", "drain()"):
                tasks.start_soon(startup.drain, reason)
            await settled(lambda: startup.draining)
            startup.condition("listener").set(False)
            run.redis.then("refused")
            await clock.advance(15.1)
        assert startup.stage is Stage.READY
    assert sum(isinstance(fact, DrainBegan) for fact in facts) == 1
    run.stages.assert_went("booting", "probing_redis", "grace", "ready")


@pytest.mark.anyio
async def test_callbacks_run_first_and_none_can_hold_the_drain_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = virtual_startup(policy=TIMES)
    startup, clock = run.startup, run.clock
    gate, ran = Gate(clock), list[str]()
    startup.drain_with(gate)

    @startup.on_drain
    def plain() -> None:
        ran.append("plain")

    @startup.on_drain
    async def slow() -> None:
        with clock.cancel_at(clock.now() + 8.0):
            await anyio.sleep_forever()
        ran.append("slow")

    @startup.on_drain
    async def exits() -> None:
        sys.exit(3)

    @startup.on_drain
    def raises() -> None:
        raise RuntimeError("no")

    @startup.on_drain
    async def never_ends() -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.05)
        await anyio.sleep_forever()

    with pytest.raises(TypeError):
        startup.on_drain(3)  # type: ignore[type-var]  # that is the test
    async with startup:
        await startup.wait_for(Stage.READY)
        began_at = clock.now()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(startup.drain)
            await settled(lambda: "plain" in ran)
            await clock.advance(8.1)
            assert ran == ["plain", "slow"]
            assert startup.ready, "one callback still runs"
            await clock.advance(7.0)
        # What does not end is left behind in time for the WebSockets: 25 s less 10 s.
        assert [round(at - began_at, 3) for _, at in gate.told] == [0.0, 15.0, 15.0]
    assert "exits raised in the drain" in caplog.text
    assert "raises raised in the drain" in caplog.text
    assert "never_ends did not return in the drain in time" in caplog.text


@pytest.mark.anyio
async def test_the_limit_and_a_hurry_end_it_though_something_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = virtual_startup(policy=TIMES)
    startup, clock = run.startup, run.clock
    gate = Gate(clock, takes_seconds=1000.0)
    startup.drain_with(gate)
    async with startup:
        await startup.wait_for(Stage.READY)
        assert startup.drain_seconds_left() == 25.0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(startup.drain)
            await settled(lambda: startup.draining)
            await clock.advance(24.9)
            assert startup.drain_seconds_left() == pytest.approx(0.1)
            assert not startup.explain().draining.endswith("over")
            await clock.advance(0.2)
        assert "has reached drain_limit_seconds (25 s)" in caplog.text
        assert startup.drain_seconds_left() == 0.0
    async with startup:
        assert not startup.draining, "this is another start-up"
        await startup.wait_for(Stage.READY)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(startup.drain)
            await settled(lambda: startup.draining)
            startup.cut_drain_short("SIGQUIT")
    assert "the drain is cut short: SIGQUIT" in caplog.text


@pytest.mark.anyio
async def test_leaving_ends_it_and_cancelling_who_waits_does_not() -> None:
    run = virtual_startup(policy=TIMES)
    startup = run.startup
    gate = Gate(run.clock, takes_seconds=1000.0)
    startup.drain_with(gate)
    waited = anyio.Event()

    async def wait() -> None:
        await startup.drain()
        waited.set()

    async with anyio.create_task_group() as tasks:
        async with startup:
            await startup.wait_for(Stage.READY)
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(startup.drain)
                    await settled(lambda: startup.draining)
                    scope.cancel()
            tasks.start_soon(wait)
            await run.clock.advance(6.0)
            assert not startup.ready
            assert not waited.is_set()
        with anyio.fail_after(SECONDS):
            await waited.wait()
    await startup.drain()  # it was left: there is nothing to wait for


def test_other_threads_and_event_loops_wait_for_the_same_drain() -> None:
    policy = Policy(grace_seconds=0.0, drain_close_seconds=0.0)
    startup = Orchestrator(ScriptedProbe(), policy=policy)
    called = threading.Event()
    startup.on_drain(called.set)
    with startup.run_in_thread():
        startup.wait_for_sync(Stage.READY, timeout_seconds=SECONDS)
        anyio.run(startup.drain, backend="asyncio")
        assert called.is_set()
        anyio.run(startup.drain, backend="trio")
        assert startup.draining
        assert not startup.ready


@pytest.mark.anyio
async def test_a_disabled_orchestrator_drains_at_once() -> None:
    startup = Orchestrator(ScriptedProbe(), policy=TIMES, enabled=False)
    async with startup:
        assert startup.drain_seconds_left() == 0.0
        with anyio.fail_after(SECONDS):
            await startup.drain()


@pytest.mark.anyio
async def test_callbacks_have_their_turn_even_where_a_drain_takes_no_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = Policy(drain_announce_seconds=0, drain_close_seconds=0, drain_limit_seconds=0)
    startup, ran = virtual_startup(policy=policy).startup, list[str]()
    startup.on_drain(lambda: ran.append("plain"))

    @startup.on_drain
    async def quick() -> None:
        ran.append("async")

    async with startup:
        for _ in range(2):
            await startup.drain()
    assert sorted(ran) == ["async", "plain"]
    assert "did not return" not in caplog.text
