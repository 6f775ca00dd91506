"""One start-up, from entering to leaving: its machine, its feed, its driver, its companions.

The host is a task of its own. It is neither the task that enters nor the one that leaves, so these
may be two different ones, as in the fixtures and hooks of many frameworks, and no scope or
cancellation of theirs reaches the start-up. Its phases:

- It prepares the probe, starts the observers and lets the machine leave `booting`. `begin` returns
  then, or raises what went wrong.
- It runs: feed and driver in a group of the host's, each companion in a task of its own.
- `stop` freezes the stage, so that nothing that falls in a shutdown is taken for an outage.
- `leave` stops it, and the host ends: companions have a bounded time, then all that was opened is
  closed. `end` returns then, and raises what had failed.
"""

import anyio

from orchestrator._core.account_book import AccountBook
from orchestrator._core.companions import Companions
from orchestrator._core.condition_log import ConditionLog
from orchestrator._core.drain import Drain
from orchestrator._core.driver import Driver
from orchestrator._core.feed import Feed
from orchestrator._core.keeping import Keeping
from orchestrator._core.life_access import LifeAccess
from orchestrator._core.parts import Parts, target_of
from orchestrator._core.transition_log import TransitionLog
from orchestrator._errors import WrongThread
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock, Target
from orchestrator._probing.fleet_step import FleetSize, FleetStep
from orchestrator._probing.pacing import Pacer
from orchestrator._runtime.event_loop import EventLoop
from orchestrator._runtime.tasks import Closable, close_in_time, uninterrupted
from states import StartupMachine

_MOST_SECONDS = 5.0
"""How long a task that is cancelled while leaving waits for the end, which takes 4 s at most."""

_ELSEWHERE = (
    "the orchestrator must be left on the event loop on which it was entered: give fixture and test"
    " the same loop; what run_in_thread() returned has close()"
)


class Life(LifeAccess):
    """One start-up. Made where it is entered, on the event loop.

    Args:
        parts: What it is made of.

    Attributes:
        loop: The event loop that it runs on.
        clock: Where its time comes from.
        machine: The machine.
        target: What is asked.
        feed: Where changes of stage are published.
        driver: What feeds the machine.
        drain: How its work ends.
        companions: What runs beside it.
        keeping: What keeps conditions.
        book: What keeps the account of where it went.
        running: Whether it is entered now.
        stopping: Whether no more facts are taken. True before `running` becomes False.
        over: Whether it was left, and all of it has ended. See also `is_over`.
    """

    def __init__(self, parts: Parts) -> None:
        self.loop = EventLoop()
        self.running = False
        self.stopping = False
        self.over = False
        self._parts = parts = parts.in_force()
        self.target: Target = target_of(parts.probe)
        self.clock: Clock = parts.clock
        clock = self.clock
        now = clock.now()
        self._started_at = min(now, clock.started_at()) if parts.first else now
        self.machine = StartupMachine(parts.policy, parts.conditions, self._started_at)
        self.feed = Feed()
        self.book = AccountBook()
        size = FleetSize(parts.policy.fleet_size, parts.observers)
        self.keeping = Keeping(self.machine, parts.kept, clock, parts.random, size)
        per_second = parts.policy.connects_per_second or parts.probe.connects_per_second
        self.driver = Driver(
            self.machine,
            self.feed,
            parts.probe,
            Pacer(parts.policy, parts.random, FleetStep(size, per_second)),
            clock,
            (self.book, TransitionLog(self.book), ConditionLog(), self.keeping, *parts.observers),
            parts.policy,
        )
        self.drain = Drain(parts.policy, parts.drain, clock, self.loop, self.driver.drain_began)
        self._entered, self._joined = anyio.Event(), anyio.Event()
        self._leaving, self._ended = anyio.Event(), anyio.Event()
        self.companions = Companions(self.loop, self.feed, self._fail)
        self._failure: BaseException | None = None
        self._detached = False

    # -- entering and leaving ----------------------------------------------------------------------

    async def begin(self) -> None:
        """Start it, and return once the machine has left `booting`."""
        self.loop.spawn(self._host, "startup-orchestrator", self._is_done)
        try:
            await self._entered.wait()
        except BaseException as error:
            await self._give_up(error)
            raise
        if self._failure is not None:
            await self._give_up(None)
            self._raise_failure()
        # Only now does the first attempt begin: whoever entered may register before its result.
        self._joined.set()

    async def end(self, error: BaseException | None) -> None:
        """Leave it, and return once all of it has ended. A companion only begins to leave it.

        Args:
            error: What ended the application's part, if anything did. Companions get no time then.

        Raises:
            BaseException: What the start-up itself had failed with, if the application had not.
            WrongThread: On another event loop than its own.
        """
        if not self.is_over():
            if not self.loop.is_current:
                raise WrongThread(_ELSEWHERE)
            self.leave("it was left" + (f" with {type(error).__name__}" if error else ""))
            if self.companions.run_here:  # its own end is waited for
                return
            if error is not None:
                self.companions.hurry()
            try:
                await self._ended.wait()
            except BaseException as cancelled:
                await self._give_up(cancelled)
                # What the application raised goes first, as in any other `async with`.
                if error is None:
                    raise
        if error is None:
            self._raise_failure()

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def _give_up(self, error: BaseException | None) -> None:
        """Leave it as fast as possible."""
        self.leave("entering or leaving it was cut short")
        self.companions.hurry()
        if not isinstance(error, GeneratorExit):  # in which nothing can be awaited
            # Bounded, since what is cancelled may be a part of it, such as a probe's attempt.
            with anyio.move_on_after(_MOST_SECONDS + self.keeping.stop_seconds, shield=True):
                await self._ended.wait()

    def leave(self, why: str) -> None:
        """Begin to leave."""
        self.stop(why)
        self.running = False
        self._joined.set()
        self._leaving.set()

    def stop(self, why: str) -> None:
        """The stage stays as it is, no more facts are taken, every stream ends."""
        self.stopping = True
        self.driver.stop(why)
        self.feed.close()

    def is_over(self) -> bool:
        """Whether all of it has ended; also where its event loop was closed under it."""
        if not self.over and self.loop.ended:
            logger.warning("the orchestrator was not left before its event loop was closed")
            self.stopping, self.running, self.over = True, False, True
            self.driver.end_observers(self.machine.snapshot.last_at)
        return self.over

    def detach(self) -> None:
        """Close nothing when it ends: this process is a fork, or its event loop is gone."""
        self._detached = True

    def _fail(self, error: BaseException) -> None:
        """End it for this error, which is raised where it is left."""
        logger.error("the startup orchestrator has ended by itself", error=error)
        self._failure = self._failure or error
        self.leave(f"{type(error).__name__} was raised in it")
        self.companions.hurry()

    # -- the host ----------------------------------------------------------------------------------

    async def _host(self) -> None:
        try:
            if self._start():
                await self.driver.settle()
                await self._run()
        except anyio.get_cancelled_exc_class():
            self._see_cancelled()
        except GeneratorExit:  # its event loop was closed under it
            self.is_over()
            self.detach()
            raise
        except BaseException as error:
            self._fail(error)
        finally:
            await self._let_go()

    def _start(self) -> bool:
        """Let the machine leave `booting`; return whether that worked."""
        parts = self._parts
        try:
            parts.probe.prepare(parts.policy)
            self.driver.begin_observers(parts.context(self.target, self._started_at, self.machine))
            self.driver.boot()
        except Exception as error:  # it is raised where the orchestrator is entered
            self._failure = error
            return False
        return True

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            self.running = True
            for companion in self._parts.companions:
                self.companions.begin(companion)
            tasks.start_soon(uninterrupted(self.feed.deliver))
            self._entered.set()
            await self._joined.wait()
            tasks.start_soon(uninterrupted(self._drive))
            driver = self.driver
            tasks.start_soon(
                uninterrupted(self.keeping.run), driver.condition_changed, driver.report
            )
            try:
                await self._leaving.wait()
            finally:
                # At once: companions may look at it in this turn of the loop.
                self.stop("its task was cancelled")
            self._see_cancelled()
            await self.companions.catch_up()
            await self.keeping.stop()
            tasks.cancel_scope.cancel()

    async def _drive(self) -> None:
        try:
            await self.driver.run()
        finally:
            if not self.stopping:
                self._leaving.set()  # no one asked for it, and without it there is no start-up

    def _see_cancelled(self) -> None:
        """Log it if this ends without being asked to."""
        if self.running and not self._detached:
            self.running = False
            logger.warning(
                "the startup orchestrator's task was cancelled, and it has ended: it was not left"
                " before its event loop ended, or something cancels tasks that are not its own"
            )

    async def _let_go(self) -> None:
        self.stop("its task has ended")
        self.running = False
        if self._detached:
            self._is_done()
            return
        try:
            self.feed.resume_remaining()
            await self.companions.end()
            at = max(self.clock.now(), self.machine.snapshot.last_at)
            self.driver.end_observers(at)
            await self.driver.settle()
            parts: list[Closable] = [self._parts.probe, *self.driver.observers]
            await close_in_time(*parts)
            await close_in_time(logger)  # last, since all of them may have logged
        except Exception as error:  # it is logged
            logger.error("the startup orchestrator could not close everything", error=error)
        finally:
            self._is_done()

    def _is_done(self) -> None:
        """The host has ended, or never got a turn."""
        self.stopping, self.running, self.over = True, False, True
        self._entered.set()
        self._ended.set()
