"""Entering, leaving and entering again, in whatever task, thread, process or event loop."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import uvloop

from orchestrator import (
    AlreadyStarted,
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
    WrongThread,
)
from orchestrator._runtime.loop_thread import _Run
from orchestrator.testing import REFUSED, ManualClock, ScriptedProbe, StageLog

SECONDS = 30.0
"""No wait here takes so long, unless it fails."""


class Diary(Observer):
    """Remembers what it is told, and closes like one that sends."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def started(self, context: StartupContext) -> None:  # the port's
        self.told.append("started")

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
        if changed is not None:
            self.told.append(changed.current)

    def stopped(self, at: float) -> None:  # the port's
        self.told.append("stopped")

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.told.append("closed")


ONE_LIFE = ["started", Stage.PROBING_REDIS, Stage.GRACE, Stage.READY, "stopped", "closed"]


def made(
    *observers: Observer, conditions: tuple[str, ...] = (), enabled: bool = True
) -> Orchestrator:
    return Orchestrator(
        ScriptedProbe(),
        policy=Policy(),
        observers=observers,
        conditions=conditions,
        enabled=enabled,
    )


# -- again ---------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("enabled", [True, False])
async def test_each_entering_is_a_new_start_up(enabled: bool) -> None:
    diary, log = Diary(), StageLog()
    startup = made(diary, log, enabled=enabled)
    called: list[int] = []

    @startup.on(Stage.READY)
    async def ready(event: StageChanged) -> None:
        await anyio.lowlevel.checkpoint()
        called.append(event.sequence)

    for life in range(1, 4):
        async with startup:
            await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
        assert diary.told == ONE_LIFE * life
        assert called == [3] * life
        log.assert_went("booting", "probing_redis", "grace", "ready")
        assert not startup.running


@pytest.mark.anyio
async def test_conditions_begin_anew_and_an_old_block_has_no_say_in_a_new_start_up() -> None:
    startup = made(conditions=("listener",))
    listener = startup.condition("listener")
    old = contextlib.ExitStack()
    async with startup:
        old.enter_context(listener)
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    async with startup:
        assert not startup.explain().conditions["listener"].satisfied
        with listener:
            await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
            old.close()
            await anyio.wait_all_tasks_blocked()
            assert startup.stage is Stage.READY


@pytest.mark.anyio
@pytest.mark.parametrize("new_task", [True, False])
async def test_of_two_blocks_of_two_start_ups_the_later_may_end_first(new_task: bool) -> None:
    startup = made(conditions=("listener",))
    old, may_end = contextlib.ExitStack(), anyio.Event()

    async def hold() -> None:
        with startup.condition("listener"):
            await may_end.wait()

    async with anyio.create_task_group() as tasks:
        async with startup:
            if new_task:
                tasks.start_soon(hold)
            else:
                old.enter_context(startup.condition("listener"))
            await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
        async with startup:
            with startup.condition("listener"):
                await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
            await startup.wait_for(Stage.DEGRADED, timeout_seconds=SECONDS)
            startup.condition("listener").set(True)
            old.close()
            may_end.set()
            await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
            await anyio.wait_all_tasks_blocked()
            assert startup.ready


@pytest.mark.anyio
async def test_a_callback_of_a_running_start_up_belongs_to_it_alone() -> None:
    startup = made()
    called: list[str] = []
    async with startup:
        startup.on(Stage.READY)(lambda _: called.append("this time"))
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    startup.on(Stage.READY)(lambda _: called.append("always"))
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    assert called == ["this time", "always"]


@pytest.mark.anyio
async def test_a_later_start_up_begins_when_it_is_entered_and_not_with_the_process() -> None:
    clock, log = ManualClock(100.0, age_seconds=2.0), StageLog()
    startup = Orchestrator(ScriptedProbe(), policy=Policy(), clock=clock, observers=[log])
    for booting in (2.0, 0.0):
        async with startup:
            await clock.advance(5.0)
            assert log.events[0].elapsed_seconds == booting


@pytest.mark.anyio
async def test_after_a_failed_entry_it_can_be_entered() -> None:
    class Broken(Observer):
        fails = True

        def started(self, context: StartupContext) -> None:  # the port's
            if self.fails:
                raise SystemExit("broken")

    observer, diary = Broken(), Diary()
    startup = made(observer, diary)
    with pytest.raises(SystemExit):
        await startup.start()
    assert not startup.running
    await startup.aclose()  # it was raised already
    observer.fails = False
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    assert diary.told[-6:] == ONE_LIFE


@pytest.mark.anyio
async def test_an_observer_that_was_never_started_is_not_stopped() -> None:
    class Unprepared(ScriptedProbe):
        def prepare(self, policy: Policy) -> None:  # the port's
            raise ValueError("boom")

    diary = Diary()
    startup = Orchestrator(Unprepared(), observers=[diary])
    for _ in range(2):
        with pytest.raises(ValueError, match="boom"):
            await startup.start()
        await startup.aclose()
    assert diary.told == []


@pytest.mark.anyio
async def test_what_is_asked_while_it_is_entered_says_so_and_what_is_registered_counts() -> None:
    said, called = list[str](), list[int]()

    class Asks(Observer):
        def started(self, context: StartupContext) -> None:  # the port's
            startup.on(Stage.READY)(lambda event: called.append(event.sequence))
            for ask in (startup.subscribe, lambda: startup.condition("c").set(True)):
                with pytest.raises(NotRunning) as raised:
                    ask()
                said.append(str(raised.value))

    startup = made(Asks(), conditions=("c",))
    for _ in range(2):
        async with startup:
            startup.condition("c").set(True)
            await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    assert all("being entered" in text for text in said)
    assert called == [3, 3]


@pytest.mark.anyio
async def test_two_at_the_same_time_are_an_error_also_while_it_is_left() -> None:
    leaving = anyio.Event()
    startup = made()

    @startup.on(Stage.READY)
    async def lingers(_: StageChanged) -> None:
        async for _ in startup.subscribe():
            pass
        leaving.set()
        await anyio.sleep(0.1)

    async with anyio.create_task_group() as tasks:
        await startup.start()
        with pytest.raises(AlreadyStarted):
            await startup.start()
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(startup.aclose)
        await leaving.wait()
        with pytest.raises(AlreadyStarted):
            await startup.start()
    async with startup:
        pass


# -- other tasks ---------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_it_is_entered_and_left_in_different_tasks_and_nobody_is_cancelled() -> None:
    startup = made()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(startup.start)
    await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(startup.aclose)
        tasks.start_soon(startup.aclose)
    await anyio.lowlevel.checkpoint()  # a cancellation that was left behind would come here
    assert not startup.running
    await startup.aclose()


@pytest.mark.anyio
async def test_it_may_be_entered_within_a_scope_that_ends_first() -> None:
    async with contextlib.AsyncExitStack() as stack:
        with anyio.fail_after(SECONDS):
            startup = await stack.enter_async_context(made())
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)


@pytest.mark.anyio
async def test_an_entering_that_is_cancelled_leaves_nothing_behind() -> None:
    diary = Diary()
    startup = made(diary)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await startup.start()
    assert scope.cancelled_caught
    assert not startup.running
    assert diary.told[-2:] == ["stopped", "closed"]
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)


@pytest.mark.anyio
async def test_closing_what_was_never_started_does_no_harm() -> None:
    startup = made()
    await startup.aclose()
    with pytest.raises(NotRunning):
        await startup.__aexit__(None, None, None)


@pytest.mark.anyio
async def test_what_runs_beside_sees_the_context_of_whoever_entered() -> None:
    request = contextvars.ContextVar("request", default="none")
    startup, seen = made(), []
    startup.on(Stage.READY)(lambda _: seen.append(request.get()))
    request.set("mine")
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    assert seen == ["mine"]


async def _wait_for() -> None:
    async with contextlib.AsyncExitStack() as stack:
        startup = await asyncio.wait_for(stack.enter_async_context(made()), SECONDS)
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)


async def _hooks() -> None:
    startup = made()
    await asyncio.create_task(startup.start())
    await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    await asyncio.create_task(startup.aclose())
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def _generator() -> None:
    startup = made()

    async def fixture() -> AsyncGenerator[Orchestrator]:
        async with startup:
            yield startup

    generator = fixture()
    await asyncio.create_task(anext(generator))
    await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)
    with contextlib.suppress(StopAsyncIteration):
        await asyncio.create_task(anext(generator))
    assert not startup.running


RUNNERS: list[Callable[[Coroutine[Any, Any, None]], None]] = [asyncio.run, uvloop.run]


@pytest.mark.parametrize("run", RUNNERS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("story", [_wait_for, _hooks, _generator])
def test_tasks_of_asyncio_s_own(
    story: Callable[[], Coroutine[Any, Any, None]],
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    run(story())


# -- other event loops ---------------------------------------------------------------------------


@pytest.mark.parametrize("run", RUNNERS, ids=["asyncio", "uvloop"])
def test_it_is_entered_on_one_event_loop_after_the_other(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    diary = Diary()
    startup = made(diary)

    async def live() -> None:
        async with startup:
            await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)

    for _ in range(3):
        run(live())
    anyio.run(live, backend="trio")
    assert diary.told == ONE_LIFE * 4


@pytest.mark.parametrize("run", [*RUNNERS, lambda main: anyio.run(lambda: main, backend="trio")])
def test_one_that_is_not_left_is_left_by_the_end_of_its_event_loop(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    diary = Diary()
    startup = made(diary)

    async def live() -> None:
        await startup.start()
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)

    for _ in range(2):
        run(live())
        assert not startup.running
    assert diary.told == ONE_LIFE * 2


def test_a_loop_that_was_closed_under_it_is_said_and_does_no_harm(
    caplog: pytest.LogCaptureFixture,
) -> None:
    diary = Diary()
    startup = made(diary, conditions=("c",))

    async def enter() -> None:
        await startup.start()
        startup.condition("c").set(True)
        await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)

    def wait() -> None:
        with contextlib.suppress(Stopped):
            startup.wait_for_sync(Stage.DEGRADED)

    waiter = threading.Thread(target=wait)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(enter())
    waiter.start()
    loop.run_until_complete(asyncio.sleep(0.05))  # it may be in the middle of anything
    loop.close()
    assert startup.ended == "the orchestrator's event loop was closed"
    assert not startup.ready
    startup.condition("c").set(False)
    waiter.join(SECONDS)
    assert not waiter.is_alive()
    startup.stop()
    asyncio.run(startup.aclose())
    assert "not left before its event loop was closed" in caplog.text
    assert diary.told == ONE_LIFE[:-1]

    async def live() -> None:
        async with startup:
            startup.condition("c").set(True)
            await startup.wait_for(Stage.READY, timeout_seconds=SECONDS)

            gc.collect()  # what is left of the one before has no say in this one
            assert startup.ended is None

    asyncio.run(live())
    assert diary.told == ONE_LIFE[:-1] + ONE_LIFE
    # asyncio itself tells of the tasks that were pending, and rightly.
    logging.getLogger("asyncio").addFilter(lambda record: "pending" not in record.getMessage())


def test_leaving_on_another_loop_than_it_was_entered_on_is_a_clear_error() -> None:
    startup = made()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(startup.start())
    with pytest.raises(WrongThread, match="on which it was entered"):
        asyncio.run(startup.aclose())
    loop.run_until_complete(startup.aclose())
    loop.close()


@pytest.mark.anyio
async def test_a_running_one_that_nobody_holds_is_not_collected() -> None:
    seen = anyio.Event()
    diary = Diary()
    startup = Orchestrator(ScriptedProbe("refused 200ms, ok"), policy=Policy(), observers=[diary])
    startup.on(Stage.READY)(lambda _: seen.set())
    await startup.start()
    del startup
    with anyio.fail_after(SECONDS):
        while not seen.is_set():
            gc.collect()
            await anyio.sleep(0.01)


# -- other threads -------------------------------------------------------------------------------


def test_a_program_without_an_event_loop_runs_it_in_a_thread() -> None:
    diary = Diary()
    startup = made(diary, conditions=("listener",))
    for life in range(1, 3):
        with startup.run_in_thread() as entered:
            assert entered is startup
            with pytest.raises(StartupTimeout, match="condition listener"):
                startup.wait_for_sync(Stage.READY, timeout_seconds=0.05)
            assert "condition listener" in str(startup.explain())
            startup.condition("listener").set(True)
            event = startup.wait_for_sync(Stage.READY, timeout_seconds=SECONDS)
            assert event.current is startup.stage is Stage.READY
            assert startup.explain().in_stage_seconds >= 0
        assert diary.told == ONE_LIFE * life
    assert not [one for one in threading.enumerate() if one.name == "startup-orchestrator"]


def test_a_thread_is_started_and_closed_by_hooks() -> None:
    startup = made()
    running = startup.run_in_thread()
    running.close()
    for _ in range(2):
        running.start()
        with pytest.raises(AlreadyStarted):
            running.start()
        with pytest.raises(AlreadyStarted):
            startup.run_in_thread().start()
        startup.wait_for_sync(Stage.READY, timeout_seconds=SECONDS)
        running.close()
        running.close()
        assert not startup.running


def test_a_thread_that_is_closed_before_it_has_a_loop_ends() -> None:
    """As at a Ctrl-C just after it was started."""
    run = _Run(made())
    with pytest.raises(RuntimeError):  # it cannot wait for what was not started
        run.close()
    run.thread.start()
    run.thread.join(SECONDS)
    assert not run.thread.is_alive()
    assert run.error is None


def test_a_callback_may_close_the_thread_that_it_runs_in() -> None:
    startup = made()
    running = startup.run_in_thread()
    startup.on(Stage.READY)(lambda _: running.close())
    running.start()
    for one in threading.enumerate():
        if one.name == "startup-orchestrator":
            one.join(SECONDS)
    assert not startup.running


@pytest.mark.anyio
async def test_other_threads_and_loops_may_ask_wait_and_set() -> None:
    startup = made(conditions=("listener",))
    listener = startup.condition("listener")
    here: dict[str, object] = {}

    def in_thread() -> None:
        assert startup.stage is Stage.GRACE or startup.stage is Stage.PROBING_REDIS
        assert startup.explain().conditions["listener"].required
        startup.on(Stage.READY)(lambda event: here.setdefault("callback", event.current))
        with pytest.raises(WrongThread):
            startup.subscribe()
        listener.set(True)
        here["sync"] = startup.wait_for_sync(Stage.READY, timeout_seconds=SECONDS).current
        here["asyncio"] = asyncio.run(startup.wait_for(Stage.READY)).current
        here["trio"] = anyio.run(startup.wait_for, Stage.READY, backend="trio").current
        with listener_of_another_thread():
            pass
        startup.wait_for_sync(Stage.DEGRADED, timeout_seconds=SECONDS)
        startup.stop()

    def listener_of_another_thread() -> contextlib.AbstractContextManager[object]:
        return listener

    async with startup:
        await anyio.to_thread.run_sync(in_thread)
    assert here == dict.fromkeys(("callback", "sync", "asyncio", "trio"), Stage.READY)


@pytest.mark.anyio
async def test_who_waits_in_another_thread_is_told_when_it_is_left_or_given_up() -> None:
    startup = Orchestrator(ScriptedProbe([REFUSED]))
    raised: list[type[BaseException]] = []
    begun, gave_up = threading.Semaphore(0), threading.Event()

    def wait(how: Callable[[], object]) -> None:
        begun.release()
        try:
            how()
        except BaseException as error:  # the test judges it
            raised.append(type(error))
            if isinstance(error, TimeoutError):
                gave_up.set()

    async def given_up() -> None:
        with anyio.fail_after(0.01):
            await startup.wait_for(Stage.READY)

    ways: list[Callable[[], object]] = [
        lambda: startup.wait_for_sync(Stage.READY),
        lambda: asyncio.run(startup.wait_for(Stage.READY)),
        lambda: asyncio.run(given_up()),
    ]
    async with anyio.create_task_group() as tasks, startup:
        with pytest.raises(WrongThread, match="await wait_for"):
            startup.wait_for_sync(Stage.READY)
        for how in ways:
            tasks.start_soon(anyio.to_thread.run_sync, wait, how)
        for _ in ways:
            await anyio.to_thread.run_sync(begun.acquire)
        await anyio.to_thread.run_sync(gave_up.wait, SECONDS)
    assert sorted(one.__name__ for one in raised) == ["Stopped", "Stopped", "TimeoutError"]
    assert Stopped in raised


def test_a_loop_that_is_blocked_does_not_hold_up_who_waits_with_a_limit() -> None:
    startup = made(conditions=("listener",))
    blocked, go_on = threading.Event(), threading.Event()

    @startup.on(Stage.GRACE)
    def blocks(_: StageChanged) -> None:
        blocked.set()
        go_on.wait(SECONDS)

    with startup.run_in_thread():
        assert blocked.wait(SECONDS)
        with pytest.raises(StartupTimeout):
            startup.wait_for_sync(Stage.READY, timeout_seconds=0.05)
        assert "condition listener" in str(startup.explain())
        go_on.set()


# -- other processes -----------------------------------------------------------------------------

_FORKS = """
import os, sys
from orchestrator import ConditionSpec, Orchestrator, Policy, Stage
from orchestrator.testing import ScriptedProbe

startup = Orchestrator(
    ScriptedProbe(), policy=Policy(), conditions=[ConditionSpec("mine", required=False)]
)
running = startup.run_in_thread()
if sys.argv[1] == "entered":
    running.start()
    startup.wait_for_sync(Stage.READY, timeout_seconds=30)
    block = startup.condition("mine")
    block.__enter__()
for _ in range(2):
    child = os.fork()
    if not child:
        assert startup.stage is Stage.BOOTING, startup.stage
        assert not startup.running and not startup.ready and startup.ended is None
        with startup.run_in_thread():
            startup.wait_for_sync(Stage.READY, timeout_seconds=30)
        if sys.argv[1] == "entered":
            block.__exit__(None, None, None)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
assert startup.running is (sys.argv[1] == "entered")
running.close()
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform knows no fork")
@pytest.mark.parametrize("parent", ["entered", "not entered"])
def test_a_forked_process_begins_anew(parent: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKS, parent],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "done\n", done.stderr


def test_a_thread_that_is_never_closed_is_closed_at_the_exit() -> None:
    program = """
from orchestrator import Observer, Orchestrator, Policy, Stage
from orchestrator.testing import ScriptedProbe

class Says(Observer):
    def stopped(self, at):
        print("stopped", flush=True)

startup = Orchestrator(ScriptedProbe(), policy=Policy(), observers=[Says()])
startup.run_in_thread().start()
startup.wait_for_sync(Stage.READY, timeout_seconds=30)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr, done.returncode) == ("stopped\n", "", 0)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_interrupt_while_we_run_ends_the_application_and_not_only_us(backend: str) -> None:
    class Interrupted(Probe):
        async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
            signal.raise_signal(signal.SIGINT)  # Python handles it right here
            await anyio.sleep_forever()
            raise AssertionError

    async def serve() -> None:
        async with Orchestrator(Interrupted()):
            await anyio.sleep(SECONDS)

    with pytest.raises(KeyboardInterrupt):
        anyio.run(serve, backend=backend)
