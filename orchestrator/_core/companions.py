"""What runs beside a start-up: callbacks, gates, the pod, the drain, each in a task of its own.

A companion is an async function. It begins with the start-up, or when it is registered later, and
gets its own stream of events: the latest change of stage first, then each new one. The stream ends
when the orchestrator is stopped or left, and then the companion has to end too: it has 1 s for the
events that it has not seen, is then cancelled, and abandoned after another 0.5 s.

Its task is not a child of the orchestrator's: whatever it raises or swallows, and whoever cancels
it, the machine goes on and the service can end.
"""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from orchestrator._core.feed import Feed, Subscription
from orchestrator._errors import ends_process
from orchestrator._hardening.guard import name_of
from orchestrator._hardening.log_thread import logger
from orchestrator._runtime.event_loop import EventLoop, SpawnedTask
from orchestrator._runtime.tasks import take_back_cancel

# What a coroutine yields and is sent is the event loop's business.
Companion = Callable[[Subscription], Coroutine[Any, Any, None]]
"""Runs beside one start-up until its stream of events ends."""

_CATCH_UP_SECONDS = 1.0
_CANCEL_SECONDS = 0.5


async def respond_to(
    events: Subscription,
    respond: Callable[[], None],
    *,
    beside: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    """Respond to each event, with something else running beside until the stream ends."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(beside)
        async for _ in events:
            respond()
        tasks.cancel_scope.cancel()


class Companions:
    """The companions of one start-up. All of it is called on the event loop.

    Args:
        loop: The event loop.
        feed: Where the changes of stage are published.
        fail: Called when a companion asks for the end of the process, as by `sys.exit()`.
    """

    def __init__(self, loop: EventLoop, feed: Feed, fail: Callable[[BaseException], None]) -> None:
        self._loop = loop
        self._feed = feed
        self._fail = fail
        self._tasks: set[SpawnedTask] = set()
        self._patience = anyio.CancelScope()
        self._idle: anyio.Event | None = None  # while it is waited for

    @property
    def run_here(self) -> bool:
        """Whether this is called by one of them."""
        return any(task.is_current for task in self._tasks)

    def begin(self, companion: Companion) -> None:
        """Begin one; no more of them once the feed is closed."""
        if self._feed.closed:
            return
        events = self._feed.subscribe()

        async def run() -> None:
            await self._run(companion, events)

        def done() -> None:
            self._tasks.discard(task)
            if not self._tasks and self._idle is not None:
                self._idle.set()

        spawned = self._loop.spawn(run, "startup-orchestrator companion", done)
        if spawned is not None:
            task = spawned
            self._tasks.add(task)

    def hurry(self) -> None:
        """Give them no more time to catch up."""
        self._patience.cancel()

    async def catch_up(self) -> None:
        """The feed is closed: give them up to 1 s for the events that they have not seen."""
        with self._patience, anyio.move_on_after(_CATCH_UP_SECONDS) as scope:
            await self._wait()
        if scope.cancelled_caught:
            logger.warning(
                "%d callbacks were still running %g s after the stop, and are cancelled",
                len(self._tasks),
                _CATCH_UP_SECONDS,
            )

    async def end(self) -> None:
        """Cancel those that still run, and abandon those that do not end."""
        if not self._tasks:
            return
        for task in self._tasks:
            task.cancel()
        with anyio.move_on_after(_CANCEL_SECONDS, shield=True):
            await self._wait()
        if self._tasks:
            logger.warning(
                "%d callbacks do not end when they are cancelled, and are abandoned: something in"
                " them catches the cancellation (except: or except BaseException:) and goes on",
                len(self._tasks),
            )
            for task in self._tasks:
                task.abandon()

    async def _wait(self) -> None:
        if self._tasks:
            self._idle = anyio.Event()
            await self._idle.wait()

    async def _run(self, companion: Companion, events: Subscription) -> None:
        try:
            await companion(events)
        except BaseException as error:
            if isinstance(error, GeneratorExit):
                raise  # its event loop is gone
            if ends_process(error):
                self._fail(error)
                raise
            if isinstance(error, anyio.get_cancelled_exc_class()):
                if not await take_back_cancel(lambda: self._feed.closed):
                    raise
                logger.error(
                    "%s was cancelled by the application, and has ended", name_of(companion)
                )
            else:
                logger.error("%s raised, and has ended", name_of(companion), error=error)
