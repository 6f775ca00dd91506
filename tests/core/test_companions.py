"""What runs beside a start-up can neither end the machine nor keep the service from ending."""

import asyncio
import contextlib
import gc
import threading
import time

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from orchestrator import (
    Fact,
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
)
from orchestrator._core import companions
from orchestrator._core.feed import Subscription
from orchestrator.testing import ScriptedProbe

SECONDS = 30.0
"""No wait here takes so long, unless it fails."""

QUICK = Policy(grace_seconds=0.0)


def made(*conditions: str, observers: tuple[Observer, ...] = ()) -> Orchestrator:
    return Orchestrator(ScriptedProbe(), policy=QUICK, conditions=conditions, observers=observers)


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(companions, "_CATCH_UP_SECONDS", 0.05)
    monkeypatch.setattr(companions, "_CANCEL_SECONDS", 0.05)


# -- leaving ---------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_callback_that_leaves_only_begins_to_and_all_others_leave_too() -> None:
    startup, left = made(), anyio.Event()

    @startup.on(Stage.READY)
    async def leaves(_: StageChanged) -> None:
        await startup.aclose()
        left.set()

    with anyio.fail_after(SECONDS):
        await startup.start()
        await left.wait()
        await startup.aclose()
        await startup.aclose()
    assert not startup.running


@pytest.mark.anyio
async def test_a_part_that_waits_for_its_own_end_is_let_go_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestrator._core.life._MOST_SECONDS", 0.05)

    class Leaves(Probe):
        async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
            await startup.aclose()
            return ProbeResult(0.0)

    startup = Orchestrator(Leaves(), policy=QUICK)
    with anyio.fail_after(SECONDS):
        await startup.start()
        await startup.aclose()
    assert not startup.running


@pytest.mark.usefixtures("short_patience")
@pytest.mark.anyio
async def test_a_callback_that_swallows_cancellation_is_abandoned(
    caplog: pytest.LogCaptureFixture,
) -> None:
    startup, entered, may_end, over = made(), anyio.Event(), threading.Event(), anyio.Event()

    @startup.on(Stage.READY)
    async def stays(_: StageChanged) -> None:
        entered.set()
        while not may_end.is_set():
            with contextlib.suppress(BaseException):
                await anyio.sleep(0.01)
        over.set()

    with anyio.fail_after(SECONDS):
        async with startup:
            await entered.wait()
        assert not startup.running
        assert caplog.text.count("1 callbacks do not end when they are cancelled") == 1
        assert not over.is_set()
        async with startup:  # what is left of the last start-up has no say in the next
            await startup.wait_for(Stage.READY)
            may_end.set()
            await over.wait()
            assert startup.ready


@pytest.mark.usefixtures("short_patience")
def test_asyncio_ends_without_a_callback_that_swallows_cancellation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        startup, entered = made(), anyio.Event()

        @startup.on(Stage.READY)
        async def stays(_: StageChanged) -> None:
            entered.set()
            never = asyncio.get_running_loop().create_future()
            while True:
                try:
                    await asyncio.shield(never)
                except asyncio.CancelledError:
                    continue

        async with startup:
            await entered.wait()

    asyncio.run(main())
    assert "are abandoned" in caplog.text
    gc.collect()  # now, and not in the middle of another test
    assert [record.name for record in caplog.records[2:]] == ["asyncio"], "it tells of the task"


# -- cancellations of the application's ------------------------------------------------------------


def cancel_own_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize("when", ["in a plain one", "while it awaits", "between two calls"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_whoever_cancels_a_callback_ends_neither_it_nor_the_machine(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    startup, called = made("c"), list[Stage]()
    tasks: list[asyncio.Task[None] | None] = []

    def plain(event: StageChanged) -> None:
        called.append(event.current)
        tasks.append(task := asyncio.current_task())
        if when == "in a plain one" and event.current is Stage.READY:
            assert task is not None
            task.cancel()

    async def awaits(event: StageChanged) -> None:
        plain(event)
        if event.current is Stage.READY:
            await anyio.sleep_forever()

    startup.on(Stage.READY, Stage.DEGRADED)(awaits if when == "while it awaits" else plain)
    async with startup:
        startup.condition("c").set(True)
        await startup.wait_for(Stage.READY)
        await anyio.wait_all_tasks_blocked()
        if when != "in a plain one":
            held = tasks[0]
            assert held is not None
            held.cancel()
            await anyio.wait_all_tasks_blocked()
        startup.condition("c").set(False)
        await startup.wait_for(Stage.DEGRADED)
        assert startup.ended is None
        await anyio.wait_all_tasks_blocked()
        assert called == [Stage.READY, Stage.DEGRADED]
    assert caplog.text.count("raised CancelledError; it is called again the next time") == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_observers_that_cancel_the_task_they_are_called_in_end_nothing() -> None:
    class Cancels(Observer):
        calls = 0

        def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
            self.calls += 1
            cancel_own_task()

        def started(self, context: StartupContext) -> None:  # the port's
            cancel_own_task()

        def stopped(self, at: float) -> None:  # the port's
            cancel_own_task()

    cancels = Cancels()
    startup = made("c", observers=(cancels,))
    async with startup:
        for satisfied in (True, False, True):
            startup.condition("c").set(satisfied)
            await startup.wait_for(Stage.READY if satisfied else Stage.DEGRADED)
        assert startup.ready
    assert cancels.calls > 5
    assert startup.ended == "the orchestrator was stopped: it was left"


@pytest.mark.parametrize("name", ["startup-orchestrator", "Life._drive"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_one_line_says_that_the_machine_was_cancelled(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with made() as startup:
        await startup.wait_for(Stage.READY)
        hit = [task for task in asyncio.all_tasks() if task.get_name().endswith(name)]
        assert len(hit) == 1
        hit[0].cancel()
        await anyio.wait_all_tasks_blocked()
        assert startup.ended is not None
        assert not startup.running
    assert caplog.text.count("task was cancelled, and it has ended") == 1


# -- companions ------------------------------------------------------------------------------------


async def _raises(_: Subscription) -> None:
    await anyio.lowlevel.checkpoint()
    raise ValueError("mine")


async def _cancels_itself(events: Subscription) -> None:
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        raise ValueError("trio has no such thing")
    cancel_own_task()
    async for _ in events:
        pass


@pytest.mark.parametrize("companion", [_raises, _cancels_itself])
@pytest.mark.anyio
async def test_a_companion_that_ends_by_itself_is_said_and_ends_nothing(
    companion: companions.Companion, caplog: pytest.LogCaptureFixture
) -> None:
    startup, beside = made("c"), list[Stage]()

    async def good(events: Subscription) -> None:
        async for event in events:
            beside.append(event.current)

    startup.accompany(companion)
    async with startup:
        startup.accompany(good)
        startup.condition("c").set(True)
        await startup.wait_for(Stage.READY)
        await anyio.wait_all_tasks_blocked()
        assert startup.ended is None
    assert beside[-1] is Stage.READY
    assert caplog.text.count("and has ended") == 1
    beside.clear()
    async with startup:
        startup.condition("c").set(True)
        await startup.wait_for(Stage.READY)
    assert beside[-1] is Stage.READY, "what was registered later runs beside the next one too"


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.anyio
async def test_a_callback_that_ends_the_process_ends_the_start_up_on_trio_too() -> None:
    startup = made()

    @startup.on(Stage.READY)
    def exits(_: StageChanged) -> None:
        raise SystemExit(3)

    await startup.start()
    await anyio.wait_all_tasks_blocked()
    assert startup.ended is not None
    with pytest.raises(SystemExit):
        await startup.aclose()


# -- other threads ---------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_what_is_registered_while_it_is_left_is_neither_called_nor_kept() -> None:
    startup, called, seen = made("c"), list[str](), list[object]()

    @startup.on(Stage.READY)
    async def lingers(_: StageChanged) -> None:
        startup.stop()
        await anyio.to_thread.run_sync(elsewhere)
        seen.append(startup.ended)

    def elsewhere() -> None:
        startup.on(*Stage)(lambda _: called.append("late"))
        startup.condition("c").set(True)
        with startup.condition("c"):
            startup.stop()

    for _ in range(2):
        async with startup:
            startup.condition("c").set(True)
            await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    assert called == []
    assert len(seen) == 2
    assert all(str(ended).startswith("the orchestrator was stopped: ") for ended in seen)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_threads_that_use_it_while_its_event_loop_ends_harm_nobody(backend: str) -> None:
    raised: list[BaseException] = []

    def use(startup: Orchestrator, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                startup.on(Stage.READY)(lambda _: None)
                startup.condition("c").set(True)
                startup.wait_for_sync(Stage.DEGRADED, timeout_seconds=0.0005)
            except (NotRunning, Stopped, StartupTimeout):
                time.sleep(0.0002)
            except BaseException as error:
                raised.append(error)

    for turn in range(6):
        startup, ended = made("c"), threading.Event()
        user = threading.Thread(target=use, args=(startup, ended))

        async def main(
            startup: Orchestrator = startup, user: threading.Thread = user, turn: int = turn
        ) -> None:
            await startup.start()
            user.start()
            await anyio.sleep(0.005)
            if turn % 2:
                await startup.aclose()

        anyio.run(main, backend=backend)
        ended.set()
        user.join(SECONDS)
        assert not user.is_alive()
    assert raised == []
