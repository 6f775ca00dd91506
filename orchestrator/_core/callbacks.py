"""Plain and async functions that are called when a stage is entered, each in a task of its own."""

import inspect
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from orchestrator._core.feed import Feed, Subscription
from orchestrator._hardening.guard import Guard
from orchestrator._hardening.log_thread import logger
from orchestrator._runtime.tasks import must_pass, uninterrupted
from states import Stage, StageChanged

Callback = Callable[[StageChanged], object]
"""A plain or an async function of one event."""


class Callbacks:
    """The callbacks of one orchestrator, registered before or after it is entered."""

    def __init__(self) -> None:
        self._registered: list[tuple[frozenset[Stage], Callback]] = []
        self._tasks: TaskGroup | None = None
        self._feed: Feed | None = None
        self._running = 0
        self._idle = anyio.Event()

    def register(
        self, stages: frozenset[Stage], callback: Callback, *, always: bool = False
    ) -> None:
        """Call `callback` for each of `stages`; from now on if the callbacks are started.

        Args:
            stages: The stages.
            callback: What is called.
            always: Whether to keep one that is registered during a start-up for those that follow.
                Others belong to that start-up: the code that registers them runs in each.
        """
        if self._tasks is None or self._feed is None:
            self._registered.append((stages, callback))
            return
        if always:
            self._registered.append((stages, callback))
        self._begin(self._tasks, self._feed, stages, callback)

    def start(self, tasks: TaskGroup, feed: Feed) -> None:
        """Start a task for each callback."""
        self._tasks, self._feed = tasks, feed
        self._running, self._idle = (
            0,
            anyio.Event(),
        )
        for stages, callback in self._registered:
            self._begin(tasks, feed, stages, callback)

    def stop(self) -> None:
        """Start no more tasks."""
        self._tasks = self._feed = None

    async def drain(self, seconds: float) -> None:
        """The feed is closed: let callbacks see what they have not seen, for at most `seconds`."""
        if self._running:
            with anyio.move_on_after(seconds) as scope:
                await self._idle.wait()
            if scope.cancelled_caught:
                logger.warning(
                    "%d callbacks were still running %g s after the stop, and are cancelled",
                    self._running,
                    seconds,
                )

    def _begin(
        self, tasks: TaskGroup, feed: Feed, stages: frozenset[Stage], callback: Callback
    ) -> None:
        if not self._running:
            self._idle = anyio.Event()
        self._running += 1
        tasks.start_soon(uninterrupted(self._call), feed.subscribe(), stages, callback)

    async def _call(
        self, events: Subscription, stages: frozenset[Stage], callback: Callback
    ) -> None:
        missed = 0
        guard = Guard("callback", callback)
        try:
            async for event in events:
                if events.missed > missed:
                    logger.warning(
                        "%s is too slow and missed %d changes of stage",
                        guard.name,
                        events.missed - missed,
                    )
                    missed = events.missed
                if event.current in stages:
                    await _call_one(callback, event, guard)
        finally:
            guard.sum_up()
            self._running -= 1
            if not self._running:
                self._idle.set()


async def _call_one(callback: Callback, event: StageChanged, guard: Guard) -> None:
    try:
        outcome = callback(event)
        if inspect.isawaitable(outcome):
            await outcome
    except BaseException as error:
        if must_pass(error):
            raise
        guard.caught(error)
