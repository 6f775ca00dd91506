"""A condition that is held by a background task, which is started, watched and restarted.

The task is code of the application, and may do anything: raise, `sys.exit`, return, hang, swallow
its cancellation. So it runs in a task of its own, outside of every group and with none of
the context variables of others, is cancelled once, and is left behind if that has no effect. Its
keeper only waits for what becomes of it:

- up: at `task_status.started()` if the function takes `task_status`, else once it runs;
- down: when it ends, in whatever way, or when it has not called `beat` for `stale_seconds`;
- again: after a pause that doubles from run to run, once all that it comes after holds again. A run
  that stayed up for long makes the next pause short again. After too many runs in too short a time
  it stays down. A run that was stopped because something that it comes after fell does not count.
"""

import contextvars
import inspect
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
import anyio.lowlevel

from orchestrator._core.keeping import Kept, KeptCondition
from orchestrator._hardening.arguments import require_flag, wrong_type
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import KeptStep
from orchestrator._runtime.event_loop import EventLoop, SpawnedTask
from orchestrator._runtime.tasks import came_by_signal
from orchestrator.checks._task_function import TaskFunction, checked_function, parameters_of

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_JITTER = 0.2
_NO_LIMIT = 1_000_000_000
_CALM_SECONDS = 30.0
"""A run that was up for this long is no crash loop: the next pause is short again."""


class Task(KeptCondition):
    """A condition that is held by a background task.

    Example::

        async def listen(*, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe("chat")
                task_status.started()
                async for message in pubsub.listen(): ...

        Orchestrator(RedisProbe(url), conditions=[Task("chat-listener", listen, after=["redis"])])

    Nothing that it raises reaches the application; it is logged, the condition falls, and the task
    is started again.

    Args:
        name: Its name, as it appears in events, pages and traces.
        function: An async function that takes nothing, or `task_status`; also a method, a
            `functools.partial`, or a `lambda` that returns an awaitable.
        required: Whether ready needs it; one that is not required only reports.
        after: The conditions that must hold before it is started, also again; `redis` is the
            orchestrator's own probe.
        restart: Whether it is started again when it has ended.
        stop_with: Stop it when something that it comes after falls, and start it again later.
        stale_seconds: How long it may go without `startup.condition(name).beat()` before it is
            taken for hung, stopped and started again; `None` never.
        stop_seconds: How long it may take to end once it is cancelled. One that has not ended by
            then is left behind, and named in the log.
        most_restarts: How many restarts there may be in `restart_window_seconds`; with one more it
            stays down for good, and if it is required, the service needs a restart.
        restart_window_seconds: See there.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When a number is out of range.
    """

    function: TaskFunction
    restart: bool
    stop_with: bool
    stale_seconds: float
    stop_seconds: float
    most_restarts: int
    restart_window_seconds: float
    logged: set[type[BaseException]]

    def __init__(  # noqa: PLR0913  each is an option of its own
        self,
        name: str,
        function: TaskFunction,
        *,
        required: bool = True,
        after: Iterable[str] = (),
        restart: bool = True,
        stop_with: bool = False,
        stale_seconds: float | None = None,
        stop_seconds: float = 5.0,
        most_restarts: int = 20,
        restart_window_seconds: float = 300.0,
    ) -> None:
        super().__init__(name, required=required, after=after)
        values = {
            "function": checked_function(name, function),
            "restart": require_flag(restart, "restart"),
            "stop_with": require_flag(stop_with, "stop_with"),
            "stale_seconds": math.inf if stale_seconds is None else stale_seconds,
            "stop_seconds": stop_seconds,
            "most_restarts": most_restarts,
            "restart_window_seconds": restart_window_seconds,
            "logged": set(),
        }
        _check("stop_seconds", stop_seconds)
        _check("most_restarts", most_restarts)
        _check("restart_window_seconds", restart_window_seconds)
        if stale_seconds is not None:
            _check("stale_seconds", stale_seconds, above_zero=True)
        for field, value in values.items():
            object.__setattr__(self, field, value)

    def in_rollback(self) -> "Task":
        """The same, without order and limits: it is the application's work, not a question."""
        return Task(
            self.name,
            self.function,
            required=self.required,
            restart=self.restart,
            stale_seconds=None if math.isinf(self.stale_seconds) else self.stale_seconds,
            stop_seconds=self.stop_seconds,
            most_restarts=_NO_LIMIT,
        )

    def log_failure(self, error: BaseException) -> None:
        """Log what the task raised: with its traceback the first time, and then in one line."""
        kind = type(error)
        if isinstance(error, anyio.get_cancelled_exc_class()):
            return
        if kind in self.logged:
            logger.warning("task %s has failed again with %s", self.name, kind.__name__)
        else:
            self.logged.add(kind)
            logger.error("task %s has failed with %s", self.name, kind.__name__, error=error)

    async def keep(self, kept: Kept) -> None:
        """Run the task, again and again, until cancelled."""
        pause, restarts = _FIRST_PAUSE_SECONDS, deque[float]()
        step, reason = KeptStep.STARTED, ""
        while True:
            kept.report(step, reason)
            began_at = kept.clock.now()
            run = _TaskRun(self, kept, is_restart=step is KeptStep.RESTARTED)
            step = KeptStep.RESTARTED
            reason = await run.wait()
            kept.set(False, reason)
            now = kept.clock.now()
            if run.gave_way:
                step = KeptStep.STARTED
                pause = _FIRST_PAUSE_SECONDS
                await kept.until_its_turn()
                continue
            if run.gave_nothing:
                kept.give_up(f"{reason}; give an async function")
                await anyio.sleep_forever()
            if not self.restart:
                kept.give_up(f"{reason}, and restart=False")
                await anyio.sleep_forever()
            while restarts and restarts[0] <= now - self.restart_window_seconds:
                restarts.popleft()
            if len(restarts) >= self.most_restarts:
                within = f"{len(restarts)} restarts in {self.restart_window_seconds:g} s"
                kept.give_up(f"{within}; {reason}")
                await anyio.sleep_forever()
            if now - began_at >= _CALM_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            share = kept.random.uniform(1 - _JITTER, 1 + _JITTER)
            with kept.clock.cancel_at(now + pause * share):
                await anyio.sleep_forever()
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            restarts.append(now)
            await kept.until_its_turn()


class _TaskRun:
    """One run of the task."""

    def __init__(self, spec: Task, kept: Kept, *, is_restart: bool) -> None:
        self._spec, self._kept = spec, kept
        self._is_restart = is_restart
        self._takes_status = "task_status" in parameters_of(spec.function)
        self._reason = "its task ended"
        self._ended = anyio.Event()
        self._watched, self._is_up = True, False
        self.gave_nothing = False  # to await, so that another run would not either
        self.gave_way = False  # it was stopped because something that it comes after fell

    async def wait(self) -> str:
        """Run it until it ends, or must be stopped; return why it is down."""
        spec, kept = self._spec, self._kept
        kept.beats_at = kept.clock.now()
        # In a context of its own: no request or span of whoever enters is the task's.
        begin = EventLoop().spawn
        task = contextvars.Context().run(begin, self._main, f"task {spec.name}", self._ended.set)
        if task is None:  # the event loop is ending
            return self._reason
        try:
            # One that fails at once, as a function that is not async does, was never up.
            for _ in range(2):
                await anyio.lowlevel.checkpoint()
            is_running = not self._ended.is_set()
            if is_running and not self._takes_status:
                kept.set(True)
            elif (
                is_running and not self._is_up and not self._is_restart
            ):  # why it ended before tells more
                kept.set(False, "its function has not called task_status.started() yet")
            return await self._until_down()
        finally:
            self._watched = False
            if not self._ended.is_set():
                await self._stop(task)

    async def _until_down(self) -> str:
        spec = self._spec
        async with anyio.create_task_group() as watching:
            down: list[str] = []

            async def watch(wait: Callable[[], Awaitable[str]]) -> None:
                down.append(await wait())
                watching.cancel_scope.cancel()

            async def ended() -> str:
                await self._ended.wait()
                return self._reason

            watching.start_soon(watch, ended)
            if spec.stale_seconds < math.inf:
                watching.start_soon(watch, self._until_stale)
            if spec.stop_with and spec.after:
                watching.start_soon(watch, self._until_something_falls)
        return down[0]

    async def _until_something_falls(self) -> str:
        reason = await self._kept.until_something_falls()
        self.gave_way = True
        return reason

    async def _until_stale(self) -> str:
        spec, kept = self._spec, self._kept
        while (due_at := kept.beats_at + spec.stale_seconds) > kept.clock.now():
            with kept.clock.cancel_at(due_at):
                await anyio.sleep_forever()
        return f"its task gave no sign for {spec.stale_seconds:g} s"

    async def _stop(self, task: SpawnedTask) -> None:
        spec = self._spec
        task.cancel()
        with anyio.CancelScope(shield=True):
            with self._kept.clock.cancel_at(self._kept.clock.now() + spec.stop_seconds):
                await self._ended.wait()
        if not self._ended.is_set():
            task.abandon()
            logger.warning(
                "task %s did not end within %g s of being cancelled, and is left behind",
                spec.name,
                spec.stop_seconds,
            )

    async def _main(self) -> None:
        status: dict[str, Any] = {"task_status": self} if self._takes_status else {}
        try:
            running: object = self._spec.function(**status)
            if inspect.isawaitable(running):
                await running
            else:
                self.gave_nothing = True
                self._reason = f"its function returned a {type(running).__name__}, not an awaitable"
        except KeyboardInterrupt:
            raise  # Ctrl-C ends the process, wherever it arrives
        except BaseException as error:
            if isinstance(error, SystemExit) and came_by_signal(error):
                raise
            # `sys.exit` in a task would leave through the event loop, past the application.
            self._reason = f"its task ended with {type(error).__name__}"
            self._spec.log_failure(error)

    def started(self, value: object = None) -> None:
        """`task_status.started()`: the task is up, unless it is one that was left behind."""
        self._is_up = True
        if self._watched:
            self._kept.set(True)


def _check(name: str, value: float, *, above_zero: bool = False) -> None:
    given: object = value
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise wrong_type(given, name, "a number", "see the documentation of Task")
    if not (value > 0 if above_zero else value >= 0):
        least = "above 0" if above_zero else "0 or more"
        raise ValueError(f"{name} is {value!r}; it must be {least}")
