"""One start-up, from entering to leaving: its machine, its feed, its driver, and their tasks.

All of it runs in a task of its own, the host, which is neither the task that enters nor the one
that leaves. So these may be two different ones, as in the fixtures and hooks of many frameworks,
and a scope or a cancellation of the one side never reaches the other.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from orchestrator._core.callbacks import Callbacks
from orchestrator._core.driver import Driver
from orchestrator._core.feed import Feed
from orchestrator._core.parts import target_of
from orchestrator._core.transition_log import TransitionLog
from orchestrator._errors import NotRunning, WrongThread
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock, Observer, Probe, StartupContext, Target
from orchestrator._probing.pacing import Pacer
from orchestrator._probing.prober import AlwaysAnswers
from orchestrator._runtime.clock import LoopClock
from orchestrator._runtime.event_loop import EventLoop
from orchestrator._runtime.tasks import Closable, close_in_time, uninterrupted
from states import Policy, StartupMachine

_DRAIN_SECONDS = 1.0
"""How long callbacks may go on with what they have not seen when the orchestrator is left."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a start-up is made of.

    Attributes:
        probe: What is asked.
        policy: Thresholds and durations.
        conditions: The declared conditions, and whether each is required.
        observers: Who sees every fact.
        clock: Where time comes from.
        random: The source of jitter; seeded by the system if not given.
        enabled: Whether the orchestrator is.
        first: Whether it is the first start-up of this process. A later one begins when it is
            entered, and not with the process.
    """

    probe: Probe
    policy: Policy
    conditions: Mapping[str, bool]
    observers: Sequence[Observer]
    clock: Clock
    random: Random | None
    enabled: bool
    first: bool

    def in_force(self) -> "Parts":
        """These; where the orchestrator is disabled, nobody is asked and nothing is required."""
        if self.enabled:
            return self
        logger.warning(
            "the startup orchestrator is disabled: nothing is probed, every client is admitted"
        )
        policy = Policy(platform=self.policy.platform, grace_seconds=0.0)
        conditions = dict.fromkeys(self.conditions, False)
        return replace(self, probe=AlwaysAnswers(), policy=policy, conditions=conditions)


class Life:
    """One start-up. Made where it is entered, on the event loop.

    Args:
        parts: What it is made of.
        callbacks: The callbacks, which outlive it.

    Attributes:
        loop: The event loop that it runs on.
        clock: Where its time comes from.
        machine: The machine.
        target: What is asked.
        feed: Where changes of stage are published.
        driver: What feeds the machine.
        running: Whether it is entered now.
        stopping: Whether no more facts are taken.
        over: Whether it was left, and all of it has ended. See also `is_over`.
    """

    def __init__(self, parts: Parts, callbacks: Callbacks) -> None:
        self.loop = EventLoop()
        self.running = False
        self.stopping = False
        self.over = False
        self._parts = parts = parts.in_force()
        self._callbacks = callbacks
        self.target: Target = target_of(parts.probe)
        self.clock: Clock = parts.clock
        clock = self.clock
        now = clock.now()
        self._started_at = min(now, clock.started_at()) if parts.first else now
        self.machine = StartupMachine(parts.policy, parts.conditions, self._started_at)
        self.feed = Feed()
        self.driver = Driver(
            self.machine,
            self.feed,
            parts.probe,
            Pacer(parts.policy, parts.random),
            clock,
            (TransitionLog(), *parts.observers),
            parts.policy,
        )
        self._entered, self._joined = anyio.Event(), anyio.Event()
        self._leaving, self._ended = anyio.Event(), anyio.Event()
        self._draining = anyio.CancelScope()
        self._failure: BaseException | None = None

    def now(self) -> float:
        """The clock's reading; from any thread, if the clock allows that, as the loop's does."""
        return self.loop.now() if isinstance(self.clock, LoopClock) else self.clock.now()

    # -- entering and leaving ----------------------------------------------------------------------

    async def begin(self) -> None:
        """Start it, and return once the machine has left `booting`."""
        self.loop.spawn(self._host, "startup-orchestrator")
        try:
            await self._entered.wait()
        except BaseException as error:
            await self._give_up(error)
            raise
        if self._failure is not None:
            await self._give_up(None)
            raise self._failure
        # Only now does the first attempt begin: whoever entered may register before its result.
        self._joined.set()

    async def end(self, error: BaseException | None) -> None:
        """Leave it, and return once all of it has ended.

        Args:
            error: What ended the application's part, if anything did. Callbacks do not go on then.

        Raises:
            BaseExceptionGroup: When the start-up itself had failed, and the application had not.
            WrongThread: On another event loop than its own.
        """
        if self.is_over():
            self._raise_failure(error)
            return
        if not self.loop.is_current:
            raise WrongThread(
                "the orchestrator must be left on the event loop on which it was entered. In tests,"
                " give fixture and test the same loop; what run_in_thread() returned has close()"
            )
        self.leave()
        if error is not None:
            self._draining.cancel()
        try:
            await self._ended.wait()
        except BaseException as cancelled:
            await self._give_up(cancelled)
            # What the application raised goes first, as in any other `async with`.
            if error is None:
                raise
        self._raise_failure(error)

    def _raise_failure(self, error: BaseException | None) -> None:
        failure, self._failure = self._failure, None
        if failure is not None and error is None:
            raise failure

    async def _give_up(self, error: BaseException | None) -> None:
        """Leave it as soon as it can be, whoever is in a hurry."""
        self.leave()
        self._draining.cancel()
        if not isinstance(error, GeneratorExit):  # in which nothing can be awaited
            with anyio.CancelScope(shield=True):
                await self._ended.wait()

    def leave(self) -> None:
        """Begin to leave."""
        self.running = False
        self.stop()
        self._joined.set()
        self._leaving.set()

    def stop(self) -> None:
        """The stage stays as it is, no more facts are taken, every stream ends."""
        self.stopping = True
        self.driver.stop()
        self.feed.close()

    def is_over(self) -> bool:
        """Whether all of it has ended; also where its event loop was closed under it."""
        if not self.over and self.loop.ended:
            logger.warning("the orchestrator was not left before its event loop was closed")
            self.running, self.stopping, self.over = False, True, True
            at = self.machine.snapshot.last_at
            self.driver.end_observers(at)
        return self.over

    # -- from anywhere -----------------------------------------------------------------------------

    def on_loop(self, function: Callable[[], object]) -> None:
        """Call it now where this is the event loop's thread; else have the event loop call it.

        Raises:
            NotRunning: When the event loop has ended.
        """
        if self.loop.is_current:
            function()
            return
        try:
            self.loop.call(function)
        except RuntimeError:
            raise NotRunning("the event loop of the orchestrator was closed") from None

    def in_task(self, function: Callable[[], object]) -> None:
        """Call it now where this is a task of the event loop; else have a new task call it.

        Raises:
            NotRunning: When the event loop has ended.
        """

        async def call() -> None:
            await anyio.lowlevel.checkpoint()
            if self.running:
                function()

        if self.loop.in_task:
            function()
        else:
            self.on_loop(lambda: self.loop.spawn(call, "startup-orchestrator call"))

    # -- the host ----------------------------------------------------------------------------------

    async def _host(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                await self._run(tasks)
                tasks.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            pass  # the event loop ends
        except BaseException as error:  # it is raised where the orchestrator is left
            self._failure = error
            logger.error("the startup orchestrator has ended by itself", error=error)
        finally:
            await self._let_go()

    async def _run(self, tasks: TaskGroup) -> None:
        try:
            self._start()
        except Exception as error:  # it is raised where the orchestrator is entered
            self._failure = error
            return
        self.running = True
        self._callbacks.start(tasks, self.feed)
        tasks.start_soon(uninterrupted(self.feed.deliver))
        self._entered.set()
        await self._joined.wait()
        tasks.start_soon(uninterrupted(self.driver.run))
        await self._leaving.wait()
        self._callbacks.stop()
        with self._draining:
            await self._callbacks.drain(_DRAIN_SECONDS)

    def _start(self) -> None:
        parts, clock = self._parts, self.clock
        parts.probe.prepare(parts.policy)
        # Side by side: what lies between these two readings makes every date wrong by as much.
        now, unix_nanoseconds = clock.now(), time.time_ns()
        context = StartupContext(
            parts.policy,
            self.target,
            parts.conditions,
            self._started_at,
            now,
            unix_nanoseconds,
            parts.enabled,
        )
        self.driver.begin_observers(context)
        self.driver.boot()

    async def _let_go(self) -> None:
        self.running = False
        self.stop()
        self._callbacks.stop()
        try:
            self.feed.wake_remaining()
            at = max(self.clock.now(), self.machine.snapshot.last_at)
            self.driver.end_observers(at)
            parts: list[Closable] = [self._parts.probe, *self.driver.observers]
            await close_in_time(*parts)
            await close_in_time(logger)  # last, since all of them may have logged
        except Exception as error:  # it is logged
            logger.error("the startup orchestrator could not let go of all", error=error)
        finally:
            self.over = True
            self._entered.set()
            self._ended.set()
