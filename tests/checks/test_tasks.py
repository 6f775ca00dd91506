"""Supervised tasks: started in their order, watched, restarted, and stopped in time."""

import contextlib
import contextvars
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial, wraps

import anyio
import pytest
from anyio.abc import TaskStatus

from orchestrator import Check, Orchestrator, Stage, StageChanged, Task
from orchestrator._gate.health_answers import HealthAnswers
from orchestrator._gate.health_verdict import HealthRules
from orchestrator._http.health_paths import HEALTH_PATHS
from orchestrator.checks._task_function import TaskFunction
from orchestrator.testing import ManualClock, ScriptedProbe, virtual_startup
from states import Missing
from states._counters import Counters

pytestmark = pytest.mark.anyio


async def for_ever() -> None:
    await anyio.sleep_forever()


async def test_a_task_is_up_once_it_runs_and_ends_with_the_orchestrator() -> None:
    ended: list[str] = []

    async def listen() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("listener")

    run = virtual_startup(conditions=[Task("listener", listen)])
    async with run.startup as startup:
        await run.clock.advance(0.1)
        assert startup.stage is Stage.READY
        assert not ended
    assert ended == ["listener"]


async def test_the_start_of_one_task_does_not_cost_more_the_more_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = 0

    def look(counters: Counters) -> tuple[Missing, ...]:
        nonlocal looks
        looks += 1
        return whole(counters)

    whole = Counters.waits_for
    monkeypatch.setattr(Counters, "waits_for", look)
    run = virtual_startup(conditions=[Task(f"task {n}", for_ever) for n in range(60)])
    async with run.startup as startup:
        await run.clock.advance(0.1)
        assert startup.stage is Stage.READY
    assert looks < 30, "each look is at all conditions"


async def test_a_task_that_takes_a_status_is_up_when_it_says_so() -> None:
    subscribed = anyio.Event()

    async def listen(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        await subscribed.wait()
        task_status.started()
        await anyio.sleep_forever()

    run = virtual_startup(conditions=[Task("listener", listen)])
    async with run.startup as startup:
        await run.clock.advance(1)
        assert str(startup.stage) == "grace"
        reason = startup.explain().conditions["listener"].reason
        assert reason == "its function has not called task_status.started() yet"
        subscribed.set()
        await run.clock.advance(0.1)
        assert startup.stage is Stage.READY


async def test_why_a_task_ended_is_said_until_it_is_up_again() -> None:
    runs: list[str] = []

    async def listen(*, task_status: TaskStatus[None]) -> None:
        runs.append("listen")
        if len(runs) == 1:
            raise OSError
        await anyio.sleep_forever()

    run = virtual_startup(conditions=[Task("listener", listen)])
    async with run.startup as startup:
        await run.clock.advance(10)
        assert len(runs) == 2
        reason = startup.explain().conditions["listener"].reason
        assert reason == "its task ended with OSError"


async def test_in_the_rollback_tasks_run_all_the_same_and_wait_for_nothing() -> None:
    runs: list[str] = []

    async def work() -> None:
        runs.append("work")
        if len(runs) < 30:
            raise OSError("an outage, which nothing is asked about")
        await anyio.sleep_forever()

    conditions = [
        Check("database", ScriptedProbe("refused")),
        Task("worker", work, after=["redis", "database"]),
    ]
    clock, nobody = ManualClock(), ScriptedProbe("refused")
    startup = Orchestrator(nobody, conditions=conditions, enabled=False, clock=clock)
    async with startup:
        await clock.advance(0.01)
        assert startup.stage is Stage.READY
        assert runs == ["work"]
        await clock.advance(400)
        assert len(runs) == 30  # it is not given up, either
        assert startup.explain().conditions["worker"].satisfied


class Crash(BaseException):
    pass


def raises(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "error", [ValueError("hunter2"), SystemExit(3), Crash(), ExceptionGroup("g", [OSError()])]
)
async def test_a_task_that_fails_is_started_again_and_its_error_reaches_nobody(
    error: BaseException,
) -> None:
    runs = 0

    async def listen() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise error
        await anyio.sleep_forever()

    run = virtual_startup(conditions=[Task("listener", listen)])
    async with run.startup as startup:
        await run.clock.advance(1)
        assert runs == 3
        assert startup.stage is Stage.READY
        assert "hunter2" not in str(startup.explain())


async def test_the_reason_is_the_type_of_what_it_raised() -> None:
    run = virtual_startup(conditions=[Task("listener", raises(ValueError("hunter2")))])
    async with run.startup as startup:
        await run.clock.advance(1)
        assert startup.explain().conditions["listener"].reason == "its task ended with ValueError"


@pytest.mark.parametrize("required", [True, False])
async def test_a_crash_loop_ends_for_good_and_everybody_learns_it(
    required: bool, caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    async def fail() -> None:
        nonlocal runs
        runs += 1
        raise ValueError

    task = Task("listener", fail, most_restarts=5, required=required)
    run = virtual_startup(conditions=[task])
    answers = HealthAnswers(run.startup, HealthRules())
    async with run.startup as startup:
        await run.clock.advance(0.1)
        assert startup.needs_restart is None
        await run.clock.advance(600)
        assert runs == 6
        why = "down for good: 5 restarts in 300 s; its task ended with ValueError"
        assert startup.explain().conditions["listener"].reason == why
        assert why in str(startup.explain())
        said = [one for one in caplog.records if why in one.getMessage()]
        assert said[0].levelname == "ERROR"
        statuses = [answers.answer(path, "GET").status for path in HEALTH_PATHS]
        # Only a restart helps, and where a platform asks for it, it does that.
        assert statuses == [503 if required else 200] * 3
        assert (why in answers.answer("/livez", "GET").body.decode()) == required
        assert startup.needs_restart == (f"condition listener is {why}" if required else None)
        assert ("needs a restart: condition listener" in str(startup.explain())) == required
    async with run.startup as startup:  # entered again, it is tried anew
        assert startup.needs_restart is None


async def test_one_that_ends_is_down_and_is_not_started_again_where_that_was_said() -> None:
    runs = 0

    async def once() -> None:
        nonlocal runs
        runs += 1

    run = virtual_startup(conditions=[Task("once", once, restart=False, required=False)])
    async with run.startup as startup:
        await run.clock.advance(60)
        assert (runs, startup.explain().conditions["once"].satisfied) == (1, False)
        reason = "down for good: its task ended, and restart=False"
        assert startup.explain().conditions["once"].reason == reason


async def test_a_task_waits_for_what_it_comes_after_also_when_it_is_started_again() -> None:
    fails, runs = anyio.Event(), 0

    async def listen() -> None:
        nonlocal runs
        runs += 1
        await fails.wait()
        raise OSError

    run = virtual_startup(
        "refused 2s, ok",
        conditions=[Task("listener", listen, after=["redis", "database"]), "database"],
    )
    async with run.startup as startup:
        await run.clock.advance(1)
        assert runs == 0
        startup.condition("database").set(True)
        await run.clock.advance(3)
        assert (runs, startup.stage) == (1, Stage.READY)
        startup.condition("database").set(False)
        await run.clock.advance(1)
        assert runs == 1  # what falls later does not stop it
        fails.set()
        await run.clock.advance(60)
        assert runs == 1
        assert startup.explain().conditions["listener"].reason == "after database"
        startup.condition("database").set(True)
        await run.clock.advance(1)
        assert runs > 1


async def test_a_task_can_stop_with_what_it_comes_after() -> None:
    runs, ended = 0, 0

    async def listen() -> None:
        nonlocal runs, ended
        runs += 1
        try:
            await anyio.sleep_forever()
        finally:
            ended += 1

    task = Task("listener", listen, after=["database"], stop_with=True)
    run = virtual_startup(conditions=["database", task])
    async with run.startup as startup:
        startup.condition("database").set(True)
        await run.clock.advance(1)
        startup.condition("database").set(False)
        await run.clock.advance(5)
        assert (runs, ended) == (1, 1)
        startup.condition("database").set(True)
        await run.clock.advance(1)
        assert (runs, ended, startup.stage) == (2, 1, Stage.READY)


async def test_giving_way_to_an_outage_is_no_failure_however_often() -> None:
    runs = 0

    async def listen() -> None:
        nonlocal runs
        runs += 1
        await anyio.sleep_forever()

    task = Task("listener", listen, after=["database"], stop_with=True, most_restarts=2)
    run = virtual_startup(conditions=["database", task])
    async with run.startup as startup:
        for up in [True, False] * 6:
            startup.condition("database").set(up)
            await run.clock.advance(1)
        startup.condition("database").set(True)
        await run.clock.advance(1)
        assert (runs, startup.explain().conditions["listener"].satisfied) == (7, True)


async def test_a_run_that_was_left_behind_cannot_say_that_the_task_is_up() -> None:
    let_go, said = anyio.Event(), []

    async def stubborn(*, task_status: TaskStatus[None]) -> None:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep_forever()
        with anyio.CancelScope(shield=True):
            await let_go.wait()
        task_status.started()
        said.append(True)

    task = Task("stubborn", stubborn, stale_seconds=5, stop_seconds=1, restart=False)
    run = virtual_startup(conditions=[task])
    async with run.startup as startup:
        await run.clock.advance(10)
        let_go.set()
        await run.clock.advance(1)
        assert said
        assert not startup.explain().conditions["stubborn"].satisfied


async def test_one_that_gives_no_sign_is_taken_for_hung() -> None:
    runs = 0
    beats = 3

    async def listen() -> None:
        nonlocal runs
        runs += 1
        for _ in range(beats):
            with run.clock.cancel_at(run.clock.now() + 5):
                await anyio.sleep_forever()
            startup.condition("listener").beat()
        await anyio.sleep_forever()

    run = virtual_startup(conditions=[Task("listener", listen, stale_seconds=10)])
    async with run.startup as startup:
        await run.clock.advance(24)
        assert (runs, startup.stage) == (1, Stage.READY)
        await run.clock.advance(2)
        assert runs == 2
        assert startup.latest is not None
        assert Stage.DEGRADED in run.stages.stages


async def test_tasks_are_stopped_in_the_reverse_of_their_order() -> None:
    ended: list[str] = []

    def named(name: str) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
                ended.append(name)

        return work

    run = virtual_startup(
        conditions=[
            Task("c", named("c"), after=["b"]),
            Task("a", named("a")),
            Task("b", named("b"), after=["a"]),
        ]
    )
    async with run.startup:
        await run.clock.advance(1)
    assert ended == ["c", "b", "a"]


async def test_one_that_ignores_its_cancellation_is_left_behind_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    let_go = anyio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            with contextlib.suppress(anyio.get_cancelled_exc_class()):
                await anyio.sleep_forever()
            with anyio.CancelScope(shield=True):
                await let_go.wait()

    run = virtual_startup(conditions=[Task("stubborn", stubborn, stop_seconds=2)])
    async with anyio.create_task_group() as tasks:
        await run.startup.start()
        await run.clock.advance(1)
        tasks.start_soon(run.startup.aclose)
        await run.clock.advance(5)
        let_go.set()
    assert "task stubborn did not end within 2 s" in caplog.text


request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


async def test_no_context_of_whoever_enters_leaks_into_it() -> None:
    seen: list[str] = []

    async def look() -> None:
        seen.append(request_id.get())
        await anyio.sleep_forever()

    request_id.set("42")
    run = virtual_startup(conditions=[Task("look", look)])
    async with run.startup:
        await run.clock.advance(1)
    assert seen == ["none"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"stale_seconds": 0}, "stale_seconds is 0; it must be above 0"),
        ({"stop_seconds": "5"}, "stop_seconds must be a number, not str"),
        ({"restart": 1}, "restart must be a bool, not int"),
    ],
)
def test_what_cannot_work_is_refused_by_name(wrong: dict[str, object], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Task("listener", for_ever, **wrong)  # type: ignore[arg-type]  # as a user may


class Consumer:
    """What tasks are written as: each of these is up, or is refused."""

    async def method(self) -> None:
        await anyio.sleep_forever()

    async def with_queue(self, queue: str, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def messages(self) -> AsyncIterator[str]:
        yield "one"

    def rows(self) -> Iterator[str]:
        yield "one"

    def sync(self) -> None:
        """A loop that blocks, as of a consumer that is not async."""

    def run(self) -> "Awaitable[None]":
        return self.method()

    __call__ = method


class SyncConsumer:
    def __call__(self) -> None: ...


def traced(function: Callable[..., object]) -> Callable[..., object]:
    @wraps(function)
    def wrapper(*args: object) -> object:
        return function(*args)

    return wrapper


async def test_methods_partials_and_callables_are_tasks_like_any_other() -> None:
    one = Consumer()
    functions: list[TaskFunction] = [
        one.method,
        one,
        partial(one.with_queue, "jobs"),
        one.run,
        lambda: one.with_queue("jobs", task_status=anyio.TASK_STATUS_IGNORED),
        traced(one.method),  # type: ignore[list-item]  # its types are lost, as with many decorators
    ]
    run = virtual_startup(conditions=[Task(str(n), each) for n, each in enumerate(functions)])
    async with run.startup as startup:
        await run.clock.advance(3)
        assert startup.stage is Stage.READY


def test_a_function_that_cannot_be_a_task_is_refused() -> None:
    one = Consumer()
    for wrong, said in (
        (one.messages, "yield"),
        (partial(one.rows), "yield"),
        (one.sync, "not async"),
        (partial(one.sync), "not async"),
        (traced(one.sync), "not async"),
        (SyncConsumer(), "not async"),
        (SyncConsumer, "not async"),
        (one.with_queue, "missing a required argument: 'queue'; bind its other arguments"),
    ):
        with pytest.raises(TypeError, match=said):
            Task("jobs", wrong)  # type: ignore[arg-type]  # as a user may


async def test_a_task_that_gives_nothing_to_await_is_never_up_nor_tried_again() -> None:
    calls: list[str] = []
    run = virtual_startup(conditions=[Task("jobs", lambda: calls.append("called"))])  # type: ignore[arg-type,return-value]  # as a user may
    stages: list[Stage] = []
    async with run.startup as startup:

        @startup.on(Stage.READY)
        def ready(changed: StageChanged) -> None:
            stages.append(changed.current)

        await run.clock.advance(20)
        why = "its function returned a NoneType, not an awaitable; give an async function"
        assert startup.explain().conditions["jobs"].reason == f"down for good: {why}"
    assert (stages, calls) == ([], ["called"])


def test_a_coroutine_in_place_of_its_function_is_refused() -> None:
    coroutine = for_ever()
    with pytest.raises(TypeError, match="without the parentheses"):
        Task("listener", coroutine)  # type: ignore[arg-type]  # as a user may
    coroutine.close()


PROGRAM = """
    import os, signal, sys
    import anyio
    from orchestrator import Orchestrator, Task
    from orchestrator.testing import ScriptedProbe

    def handler(*_):
        sys.exit(7)

    async def busy():
        signal.signal(signal.SIGTERM, handler)
        await anyio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        while True:  # the handler runs here, in the middle of the task
            pass

    async def main():
        async with Orchestrator(ScriptedProbe("ok"), conditions=[Task("busy", busy)]):
            await anyio.sleep(30)

    anyio.run(main)
"""


def test_the_end_that_a_signals_handler_asks_for_is_not_lost_in_a_task() -> None:
    program = textwrap.dedent(PROGRAM)
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 7, ended.stderr


if sys.version_info >= (3, 12):

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_an_eager_task_factory_does_no_harm() -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        run = virtual_startup(conditions=[Task("listener", for_ever)])
        async with run.startup as startup:
            await run.clock.advance(1)
            assert startup.stage is Stage.READY
