"""The orchestrator as applications use it, in virtual time, on both backends."""

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from orchestrator import (
    AlreadyStarted,
    ConditionSpec,
    DuplicateCondition,
    Fact,
    Failure,
    NotRunning,
    Observer,
    Orchestrator,
    Policy,
    Probe,
    ProbeResult,
    Stage,
    StageChanged,
    StartupContext,
    StartupTimeout,
    Stopped,
    UnknownCondition,
)
from orchestrator._core.feed import HISTORY
from orchestrator.testing import REFUSED, WRONG_PASSWORD, ManualClock, ScriptedProbe

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def started(
    *script: Failure | None, policy: Policy | None = None, conditions: tuple[str, ...] = ()
) -> AsyncGenerator[tuple[Orchestrator, ManualClock, ScriptedProbe]]:
    clock, probe = ManualClock(100.0, age_seconds=2.0), ScriptedProbe(script)
    startup = Orchestrator(
        probe, policy=policy or Policy(grace_seconds=0.5), conditions=conditions, clock=clock
    )
    async with startup:
        yield startup, clock, probe


def stage(startup: Orchestrator) -> Stage:
    """The stage now; a type checker would take the property for a constant."""
    return startup.stage


async def stages_of(startup: Orchestrator, into: list[Stage]) -> None:
    async for event in startup.subscribe():
        into.append(event.current)  # noqa: PERF401  it grows as events come


# -- the stages --------------------------------------------------------------------------------


async def test_a_startup_goes_through_its_stages() -> None:
    async with anyio.create_task_group() as tasks:
        async with started(REFUSED, REFUSED, None) as (startup, clock, _):
            seen: list[Stage] = []
            tasks.start_soon(stages_of, startup, seen)
            await clock.advance(2)
            assert stage(startup) is Stage.READY
        assert seen == [Stage.PROBING_REDIS, Stage.GRACE, Stage.READY]


async def test_booting_lasts_from_the_start_of_the_process() -> None:
    async with started() as (startup, _, _):
        assert startup.latest is not None
        assert startup.latest.previous is Stage.BOOTING
        assert startup.latest.elapsed_seconds == 2.0


async def test_grace_takes_exactly_its_time() -> None:
    async with started() as (startup, clock, _):
        await clock.advance(0)
        assert stage(startup) is Stage.GRACE
        await clock.advance(0.49)
        assert stage(startup) is Stage.GRACE
        await clock.advance(0.01)
        assert stage(startup) is Stage.READY
        assert startup.latest is not None
        assert startup.latest.elapsed_seconds == pytest.approx(0.5)


async def test_without_grace_it_is_ready_with_the_first_answer() -> None:
    async with started(policy=Policy()) as (startup, clock, probe):
        await clock.advance(0)
        assert stage(startup) is Stage.READY
        assert probe.attempts == 1


async def test_a_frozen_process_does_not_wake_up_with_its_grace_served() -> None:
    async with started() as (startup, clock, _):
        await clock.advance(0.3)
        await clock.jump(1.5)
        assert stage(startup) is Stage.GRACE
        await clock.advance(0.5)
        assert stage(startup) is Stage.READY


async def test_redis_that_starts_after_20_seconds_still_ends_in_ready() -> None:
    async with started(REFUSED) as (startup, clock, probe):
        await clock.advance(20)
        assert stage(startup) is Stage.PROBING_REDIS
        probe.then(None)
        await clock.advance(1)
        assert stage(startup) is Stage.READY


async def test_a_spent_budget_degrades_and_a_late_redis_recovers() -> None:
    async with started(REFUSED) as (startup, clock, probe):
        await clock.advance(30.0)
        assert stage(startup) is Stage.DEGRADED
        assert not startup.was_ready
        probe.then(None)
        await clock.advance(1)
        assert stage(startup) is Stage.READY
        assert startup.was_ready


async def test_a_wrong_password_degrades_at_once_and_is_rechecked_slowly() -> None:
    async with started(WRONG_PASSWORD) as (startup, clock, probe):
        await clock.advance(0)
        assert stage(startup) is Stage.DEGRADED
        await clock.advance(300)
        assert 10 <= probe.attempts <= 12
        assert "the password is wrong" in str(startup.explain())


async def test_ready_degrades_after_confirmed_failures_only_and_recovers() -> None:
    async with started() as (startup, clock, probe):
        await clock.advance(1)
        probe.then(REFUSED, None)
        await clock.advance(1)
        assert stage(startup) is Stage.READY
        probe.then(REFUSED)
        await clock.advance(0.5)
        assert stage(startup) is Stage.DEGRADED
        probe.then(None)
        await clock.advance(0.6)
        assert stage(startup) is Stage.READY


async def test_attempts_in_an_outage_are_few_and_evenly_spaced() -> None:
    async with started(REFUSED) as (_, clock, probe):
        await clock.advance(5)
        assert 25 <= probe.attempts <= 45
        before = probe.attempts
        await clock.advance(20)
        assert probe.attempts - before < 125


# -- the probe ---------------------------------------------------------------------------------


class HungProbe(Probe):
    async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
        await anyio.sleep_forever()
        raise AssertionError


class BrokenProbe(Probe):
    async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("redis://user:hunter2@host")

    async def changed(self) -> None:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("redis://user:hunter2@host")


class RestlessProbe(ScriptedProbe):
    async def changed(self) -> None:
        await anyio.lowlevel.checkpoint()


async def test_a_probe_that_hangs_is_a_failed_attempt() -> None:
    clock = ManualClock()
    async with Orchestrator(HungProbe(), clock=clock) as startup:
        await clock.advance(1.1)
        assert startup.explain().last_failure == Failure(
            REFUSED.kind, "TimeoutError", "no result within 1 s"
        )


async def test_a_probe_that_raises_is_a_failed_attempt_and_its_text_goes_nowhere(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = ManualClock()
    async with Orchestrator(BrokenProbe(), clock=clock) as startup:
        await clock.advance(1)
        assert stage(startup) is Stage.PROBING_REDIS
        text = str(startup.explain())
    assert "the probe itself gave RuntimeError" in text
    assert "hunter2" not in text + caplog.text


async def test_a_probe_that_always_sees_a_change_is_no_busy_loop() -> None:
    clock, probe = ManualClock(), RestlessProbe()
    async with Orchestrator(probe, clock=clock):
        await clock.advance(1)
    assert probe.attempts <= 102
    assert probe.closed


class StubbornProbe(ScriptedProbe):
    """From its third attempt on it does not react to being cancelled, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = anyio.Event()

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        result = await super().attempt(timeout_seconds)
        if self.attempts > 2 and not self.let_go.is_set():
            with anyio.CancelScope(shield=True):
                await self.let_go.wait()
        return result


async def test_a_probe_that_cannot_be_cancelled_is_judged_in_time() -> None:
    clock, probe = ManualClock(), StubbornProbe()
    async with Orchestrator(probe, policy=Policy(grace_seconds=0.1), clock=clock) as startup:
        await clock.advance(1)
        assert stage(startup) is Stage.READY
        await clock.advance(12)
        assert stage(startup) is Stage.DEGRADED
        assert startup.explain().failures_in_row >= 3
        assert probe.attempts == 3, "the next attempt waits for the last one to return"
        probe.let_go.set()
        await clock.advance(3)
        assert stage(startup) is Stage.READY


class WrongProbe(ScriptedProbe):
    """Returns or raises what no probe should."""

    def __init__(self, wrong: object) -> None:
        super().__init__()
        self.wrong = wrong

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        await super().attempt(timeout_seconds)
        if self.attempts != 2:
            return ProbeResult(0.0)
        if self.wrong is anyio.get_cancelled_exc_class:
            raise cancelled()
        return self.wrong  # type: ignore[return-value]  # that is the point


def cancelled() -> BaseException:
    """What awaiting somebody else's cancelled task raises."""
    kind = anyio.get_cancelled_exc_class()
    return asyncio.CancelledError() if kind is asyncio.CancelledError else RuntimeError("trio")


@pytest.mark.parametrize("wrong", [None, 1, anyio.get_cancelled_exc_class])
async def test_a_probe_that_returns_or_raises_nonsense_does_not_end_the_driver(
    wrong: object,
) -> None:
    clock, probe = ManualClock(), WrongProbe(wrong)
    async with Orchestrator(probe, policy=Policy(grace_seconds=0.3), clock=clock) as startup:
        await clock.advance(2)
        assert stage(startup) is Stage.READY
        assert startup.explain().last_failure is not None
        assert probe.attempts > 3


class UnclosableProbe(ScriptedProbe):
    async def aclose(self) -> None:
        await anyio.sleep_forever()


async def test_a_probe_that_hangs_while_it_is_closed_does_not_hold_the_exit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with anyio.fail_after(5):
        async with Orchestrator(UnclosableProbe(), clock=ManualClock()):
            pass
    assert "was not closed within 1 s" in caplog.text


# -- waiting, subscribing, callbacks -----------------------------------------------------------


async def test_wait_for_returns_the_event_or_names_what_it_still_waits_for() -> None:
    async with started(REFUSED, conditions=("listener",)) as (startup, clock, _):
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                with pytest.raises(StartupTimeout) as caught:
                    await startup.wait_for(Stage.READY, timeout_seconds=5)
                assert str(caught.value) == (
                    "not ready within 5 s: in stage probing_redis, waiting for Redis to answer;"
                    " condition listener"
                )

            tasks.start_soon(wait)
            await clock.advance(5)
        event = await startup.wait_for(Stage.PROBING_REDIS)
        assert event == startup.latest


async def test_wait_for_ends_when_the_orchestrator_is_left() -> None:
    async with anyio.create_task_group() as tasks:

        async def wait(startup: Orchestrator) -> None:
            with pytest.raises(Stopped):
                await startup.wait_for(Stage.READY)

        async with started(REFUSED) as (startup, clock, _):
            tasks.start_soon(wait, startup)
            await clock.advance(1)


async def test_callbacks_plain_and_async_are_called_once_for_each_event() -> None:
    calls: list[tuple[str, Stage]] = []
    clock, probe = ManualClock(), ScriptedProbe()
    startup = Orchestrator(probe, clock=clock)

    @startup.on(Stage.READY, Stage.DEGRADED)
    def plain(event: StageChanged) -> None:
        calls.append(("plain", event.current))

    async with startup:
        await clock.advance(1)

        @startup.on(Stage.READY)
        async def late(event: StageChanged) -> None:
            await anyio.lowlevel.checkpoint()
            calls.append(("late", event.current))

        probe.then(REFUSED)
        await clock.advance(1)
        probe.then(None)
        await clock.advance(1)
    assert calls == [
        ("plain", Stage.READY),
        ("late", Stage.READY),
        ("plain", Stage.DEGRADED),
        ("plain", Stage.READY),
        ("late", Stage.READY),
    ]


async def test_a_callback_that_raises_is_logged_once_and_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[Stage] = []
    raised: list[Stage] = []
    async with started() as (startup, clock, _):

        @startup.on(*Stage)
        def broken(event: StageChanged) -> None:
            raised.append(event.current)
            raise RuntimeError("broken callback")

        @startup.on(*Stage)
        def whole(event: StageChanged) -> None:
            calls.append(event.current)

        await clock.advance(1)
    assert raised == calls == [Stage.PROBING_REDIS, Stage.GRACE, Stage.READY]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "broken callback" in caplog.text
    assert caplog.messages[1].endswith("raised 3 times in all")


async def test_a_callback_that_awaits_a_cancelled_task_is_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[Stage] = []
    async with started() as (startup, clock, _):

        @startup.on(Stage.GRACE, Stage.READY)
        async def cancels(event: StageChanged) -> None:
            await anyio.lowlevel.checkpoint()
            calls.append(event.current)
            raise cancelled()

        await clock.advance(1)
        assert stage(startup) is Stage.READY
    assert calls == [Stage.GRACE, Stage.READY]
    assert "is called again" in caplog.text


async def test_a_callback_that_hangs_delays_neither_the_machine_nor_the_exit_for_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with anyio.fail_after(5):
        async with started() as (startup, clock, _):

            @startup.on(Stage.GRACE)
            async def hangs(_event: StageChanged) -> None:
                await anyio.sleep_forever()

            await clock.advance(1)
            assert stage(startup) is Stage.READY
    assert "1 callbacks were still running 1 s after the stop" in caplog.text


async def test_a_callback_that_is_too_slow_is_told_what_it_missed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[int] = []
    async with started(policy=Policy(), conditions=("c",)) as (startup, clock, _):
        may_go_on = anyio.Event()

        @startup.on(*Stage)
        async def slow(event: StageChanged) -> None:
            seen.append(event.sequence)
            await may_go_on.wait()

        await clock.advance(0)
        for turn in range(HISTORY):
            startup.condition("c").set(satisfied=turn % 2 == 0)
            before = startup.latest
            while startup.latest is before:
                await anyio.lowlevel.checkpoint()
        may_go_on.set()
        await clock.advance(0)
        assert startup.latest is not None
        assert seen[-1] == startup.latest.sequence
    assert "is too slow and missed" in caplog.text


async def test_a_callback_sees_the_final_stage_even_if_the_service_stops_at_once() -> None:
    calls: list[Stage] = []
    async with started(policy=Policy()) as (startup, _, _):

        @startup.on(Stage.READY)
        async def note(event: StageChanged) -> None:
            await anyio.lowlevel.checkpoint()
            calls.append(event.current)

        await startup.wait_for(Stage.READY)
    assert calls == [Stage.READY]


async def test_callbacks_registered_after_the_first_one_died_are_drained_too() -> None:
    calls: list[Stage] = []
    async with started(policy=Policy()) as (startup, clock, _):

        @startup.on(*Stage)
        def broken(_event: StageChanged) -> None:
            raise RuntimeError("broken callback")

        await clock.advance(0)

        @startup.on(Stage.READY)
        async def note(event: StageChanged) -> None:
            await anyio.lowlevel.checkpoint()
            calls.append(event.current)

    assert calls == [Stage.READY]


# -- observers ---------------------------------------------------------------------------------


class Recorder(Observer):
    def __init__(self) -> None:
        self.context: StartupContext | None = None
        self.facts: list[str] = []
        self.stages: list[Stage] = []
        self.stops = 0

    def started(self, context: StartupContext) -> None:
        self.context = context

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        self.facts.append(type(fact).__name__)
        if changed is not None:
            self.stages.append(changed.current)

    def stopped(self, at: float) -> None:  # the port's
        self.stops += 1


class BrokenObserver(Observer):
    def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
        raise RuntimeError("broken observer")


async def test_an_observer_sees_every_fact_and_a_broken_one_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, recorder = ManualClock(50, age_seconds=3), Recorder()
    startup = Orchestrator(
        ScriptedProbe([REFUSED, None]),
        conditions=["listener", ConditionSpec("cache", required=False)],
        observers=[BrokenObserver(), recorder],
        clock=clock,
    )
    async with startup:
        startup.condition("listener").set(satisfied=True)
        await clock.advance(1)
    assert recorder.facts[0] == "BootFinished"
    assert {"ConditionChanged", "ProbeFailed", "ProbeSucceeded"} <= set(recorder.facts)
    assert recorder.stages == [Stage.PROBING_REDIS, Stage.GRACE, Stage.READY]
    assert recorder.stops == 1
    assert recorder.context is not None
    assert recorder.context.started_at == 47
    assert recorder.context.conditions == {"listener": True, "cache": False}
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "broken observer" in caplog.text
    assert caplog.messages[1].endswith("raised 5 times in all")


async def test_the_state_is_committed_before_anyone_is_told() -> None:
    told: list[tuple[Stage, Stage, StageChanged | None]] = []

    class Looker(Observer):
        def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
            if changed is not None:
                told.append((changed.current, startup.stage, startup.latest))

    clock = ManualClock()
    startup = Orchestrator(ScriptedProbe(), observers=[Looker()], clock=clock)
    async with startup:
        await clock.advance(1)
    assert [current for current, _, _ in told] == [Stage.PROBING_REDIS, Stage.GRACE, Stage.READY]
    assert all(current is stage for current, stage, _ in told)
    assert all(latest is not None and latest.current is current for current, _, latest in told)


async def test_an_observer_that_calls_back_does_not_stop_the_loop() -> None:
    class Chatty(Observer):
        def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
            if startup.running and len(startup.explain().conditions) == 1 and not stop:
                startup.condition("c").set(satisfied=True)

    stop: list[int] = []
    startup = Orchestrator(ScriptedProbe(), conditions=["c"], observers=[Chatty()])
    async with startup:
        startup.condition("c").set(satisfied=True)
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        stop.append(1)
        await startup.wait_for(Stage.READY, timeout_seconds=5)


async def test_every_change_of_stage_is_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "transitions")
    async with started(conditions=("listener",)) as (startup, clock, probe):
        startup.condition("listener").set(satisfied=True)
        await clock.advance(1)
        startup.condition("listener").set(satisfied=False, reason="its task ended")
        await clock.advance(0)
        probe.then(WRONG_PASSWORD)
        await clock.advance(0)
    lines = [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith(("orchestrator", "transitions"))
        and record.levelno > logging.DEBUG
    ]
    assert lines == [
        ("INFO", "booting -> probing_redis after 2.000 s: the process is set up"),
        ("INFO", "probing_redis -> grace after 0.000 s: Redis answered in 0.0 ms"),
        ("INFO", "grace -> ready after 0.500 s: Redis answered in 0.0 ms"),
        ("INFO", str(startup.account())),
        ("WARNING", "ready -> degraded after 0.500 s: condition listener is lost: its task ended"),
        ("WARNING", "Redis does not answer: the password is wrong"),
    ]
    assert vars(caplog.records[-2])["orchestrator_stage"] == "degraded"
    assert vars(caplog.records[-2])["orchestrator_stage_sequence"] == 4


# -- conditions --------------------------------------------------------------------------------


async def test_a_condition_is_true_exactly_while_its_block_runs() -> None:
    async with started(conditions=("listener",)) as (startup, clock, _):
        await clock.advance(1)
        assert stage(startup) is Stage.GRACE
        with startup.condition("listener"):
            await clock.advance(0)
            assert stage(startup) is Stage.READY
        await clock.advance(0)
        assert stage(startup) is Stage.DEGRADED
        assert "condition listener (its task ended)" in str(startup.explain())
        with contextlib.suppress(RuntimeError), startup.condition("listener"):
            await clock.advance(1)
            assert stage(startup) is Stage.READY
            raise RuntimeError("mine")
        await clock.advance(0)
        reason = startup.explain().conditions["listener"].reason
        assert reason == "its task ended with RuntimeError"


async def test_grace_after_a_condition_returns_does_not_wait_for_the_steady_pace() -> None:
    policy = Policy(grace_seconds=0.5, probe_interval_seconds=20)
    async with started(policy=policy, conditions=("c",)) as (startup, clock, _):
        startup.condition("c").set(satisfied=True)
        await clock.advance(1)
        startup.condition("c").set(satisfied=False)
        await clock.advance(1)
        assert stage(startup) is Stage.DEGRADED
        startup.condition("c").set(satisfied=True)
        await clock.advance(0.7)
        assert stage(startup) is Stage.READY


async def test_a_block_that_outlives_the_orchestrator_leaves_quietly() -> None:
    async with started(conditions=("c",)) as (startup, _, _):
        handle = startup.condition("c")
        handle.__enter__()
    handle.__exit__(None, None, None)
    with handle:  # a task that comes up in the middle of a shutdown
        await anyio.lowlevel.checkpoint()


async def test_one_condition_is_held_by_one_block_at_a_time() -> None:
    async with started(conditions=("c",)) as (startup, _, _):
        with (
            startup.condition("c"),
            pytest.raises(DuplicateCondition, match="'c' is already held"),
            startup.condition("c"),
        ):
            raise AssertionError
        with startup.condition("c"):
            await anyio.lowlevel.checkpoint()


async def test_undeclared_and_duplicate_conditions_are_clear_errors() -> None:
    with pytest.raises(DuplicateCondition, match="condition 'a' is declared twice"):
        Orchestrator(ScriptedProbe(), conditions=["a", "a"])
    with pytest.raises(ValueError, match=r"write \['listener'\]"):
        Orchestrator(ScriptedProbe(), conditions="listener")
    with pytest.raises(ValueError, match="not empty"):
        Orchestrator(ScriptedProbe(), conditions=[" "])
    startup = Orchestrator(ScriptedProbe(), conditions=["a"])
    with pytest.raises(UnknownCondition, match=r"'b' was never declared; declared: 'a'"):
        startup.condition("b")


# -- entering and leaving ----------------------------------------------------------------------


async def test_use_outside_of_the_context_is_a_clear_error() -> None:
    startup = Orchestrator(ScriptedProbe(), conditions=["c"], clock=ManualClock())
    assert startup.stage is Stage.BOOTING
    assert startup.latest is None
    startup.stop()  # does no harm
    with pytest.raises(NotRunning, match="not run yet"):
        startup.condition("c").set(satisfied=True)
    with pytest.raises(NotRunning, match="not run yet"), startup.condition("c"):
        raise AssertionError
    for when in ("not run yet", "not run any more"):
        with pytest.raises(NotRunning, match=when):
            startup.subscribe()
        with pytest.raises(NotRunning, match=when):
            await startup.wait_for(Stage.READY)
        assert str(startup.explain())
        if not startup.latest:
            async with startup:
                pass


async def test_conditions_are_quiet_once_the_orchestrator_was_left() -> None:
    async with started(conditions=("c",)) as (startup, _, _):
        pass
    startup.condition("c").set(satisfied=False)
    with startup.condition("c"):
        await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_condition_may_be_set_by_a_plain_callback_of_the_loop() -> None:
    async with started(policy=Policy(), conditions=("c",)) as (startup, clock, _):
        await clock.advance(0)
        loop = asyncio.get_running_loop()
        handle = startup.condition("c")
        await anyio.to_thread.run_sync(loop.call_soon_threadsafe, lambda: handle.set(True))
        with anyio.fail_after(5):
            await startup.wait_for(Stage.READY)


async def test_waiting_for_a_stage_by_its_name_and_for_booting() -> None:
    async with started(policy=Policy()) as (startup, clock, _):
        await clock.advance(0)
        event = await startup.wait_for("ready")  # type: ignore[arg-type]  # equal to the stage
        assert event.current is Stage.READY
        with pytest.raises(ValueError, match="no event leads to booting"):
            await startup.wait_for(Stage.BOOTING)
        for limit in ("5", True):
            with pytest.raises(TypeError, match="timeout_seconds must be a number"):
                await startup.wait_for(Stage.READY, timeout_seconds=limit)  # type: ignore[arg-type]  # wrong on purpose
        with pytest.raises(ValueError, match="NaN"):
            startup.wait_for_sync(Stage.READY, timeout_seconds=math.nan)


async def test_a_second_start_at_the_same_time_is_a_clear_error() -> None:
    startup = Orchestrator(ScriptedProbe())
    async with startup:
        with pytest.raises(AlreadyStarted, match="entered in two places"):
            await startup.__aenter__()
        assert startup.running


async def test_an_exception_of_the_application_comes_out_as_it_is() -> None:
    probe = ScriptedProbe()
    with pytest.raises(ValueError, match="mine"):
        async with Orchestrator(probe):
            raise ValueError("mine")
    assert probe.closed


async def test_an_exception_is_not_lost_to_a_cancellation_around_it() -> None:
    caught = None
    with anyio.CancelScope() as scope:
        try:
            async with Orchestrator(ScriptedProbe()):
                scope.cancel()
                raise ValueError("mine")
        except ValueError as error:
            caught = error
    assert str(caught) == "mine"


async def test_an_observer_that_stops_it_sees_no_more_facts() -> None:
    facts: list[str] = []

    class Stopper(Observer):
        def observed(self, fact: Fact, changed: StageChanged | None) -> None:
            facts.append(type(fact).__name__)
            if changed is not None and changed.current is Stage.READY:
                startup.condition("c").set(satisfied=False)
                startup.stop()

    clock = ManualClock()
    startup = Orchestrator(ScriptedProbe(), conditions=["c"], observers=[Stopper()], clock=clock)
    async with startup:
        startup.condition("c").set(satisfied=True)
        startup.condition("c").set(satisfied=True)
        await clock.advance(5)
        assert stage(startup) is Stage.READY


async def test_cancellation_from_outside_ends_it_cleanly() -> None:
    probe, recorder = ScriptedProbe([REFUSED]), Recorder()
    with anyio.move_on_after(0.05) as scope:
        async with Orchestrator(probe, observers=[recorder]):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert probe.closed
    assert recorder.stops == 1


async def test_conditions_that_fall_in_a_shutdown_are_no_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Stage] = []
    async with (
        anyio.create_task_group() as tasks,
        started(conditions=("c",)) as (startup, clock, _),
    ):
        tasks.start_soon(stages_of, startup, seen)
        with startup.condition("c"):
            await clock.advance(1)
            startup.stop()
            startup.stop()
        startup.condition("c").set(satisfied=False)
        await clock.advance(1)
        assert stage(startup) is Stage.READY
    assert seen[-1] is Stage.READY
    assert caplog.records == []


async def test_streams_end_when_the_service_is_cancelled() -> None:
    seen: list[Stage] = []
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            async with Orchestrator(ScriptedProbe([REFUSED])) as startup:
                tasks.start_soon(stages_of, startup, seen)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
                await anyio.lowlevel.checkpoint()
    assert seen == [Stage.PROBING_REDIS]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_tasks_that_asyncio_cancels_itself_end(caplog: pytest.LogCaptureFixture) -> None:
    """As at the end of `asyncio.run`, where every task is cancelled, ours too."""
    before = asyncio.all_tasks()

    async def service() -> None:
        async with started() as (startup, _, _):
            startup.on(Stage.READY)(lambda _event: None)
            await anyio.sleep_forever()

    task = asyncio.create_task(service())
    await anyio.wait_all_tasks_blocked()
    ours = asyncio.all_tasks() - before
    assert len(ours) > 3
    for one in ours:
        one.cancel()
    with anyio.fail_after(5), contextlib.suppress(asyncio.CancelledError):
        await task
    assert not asyncio.all_tasks() - before
    assert caplog.records == []


async def test_start_stop_start_again_with_a_new_one() -> None:
    for _ in range(3):
        async with Orchestrator(ScriptedProbe()) as startup:
            await startup.wait_for(Stage.READY, timeout_seconds=5)


async def test_two_orchestrators_live_side_by_side() -> None:
    async with Orchestrator(ScriptedProbe()) as one, Orchestrator(ScriptedProbe([REFUSED])) as two:
        await one.wait_for(Stage.READY, timeout_seconds=5)
        assert stage(two) is Stage.PROBING_REDIS


async def test_disabled_is_the_rollback(caplog: pytest.LogCaptureFixture) -> None:
    probe = ScriptedProbe([REFUSED])
    async with Orchestrator(probe, conditions=["c"], enabled=False) as startup:
        await startup.wait_for(Stage.READY, timeout_seconds=5)
        with startup.condition("c"):
            await anyio.lowlevel.checkpoint()
    assert probe.attempts == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "disabled" in caplog.text


# -- explain -----------------------------------------------------------------------------------


async def test_explain_says_what_it_waits_for() -> None:
    async with started(REFUSED, conditions=("listener",)) as (startup, clock, probe):
        await clock.advance(3)
        known = startup.explain()
        assert known.stage is Stage.PROBING_REDIS
        assert known.in_stage_seconds == pytest.approx(3)
        assert known.waits_for == ("Redis to answer", "condition listener")
        assert known.budget_left_seconds == pytest.approx(27)
        assert known.attempts == known.failures_in_row == probe.attempts
        assert known.next_probe_seconds is not None
        assert 0 <= known.next_probe_seconds <= 0.2
        assert known.stage_seconds[Stage.BOOTING] == 2
        assert math.isclose(sum(known.stage_seconds.values()), 5)
        assert "nothing listens there" in str(known)
        probe.then(None)
        await clock.advance(0.2)
        assert startup.explain().waits_for[0].startswith("Redis to go on answering for 0.")
        startup.condition("listener").set(satisfied=True)
        await clock.advance(1)
        assert startup.explain().waits_for == ()
        assert startup.explain().budget_left_seconds is None
