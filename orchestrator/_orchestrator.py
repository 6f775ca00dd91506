"""The orchestrator as an application uses it."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from random import Random
from types import TracebackType
from typing import Self, TypeVar

from anyio.abc import TaskGroup

from orchestrator._arguments import require_flag, wrong_type
from orchestrator._callbacks import Callback, Callbacks
from orchestrator._clock import LoopClock
from orchestrator._conditions import Condition, Conditions, ConditionSpec, declare
from orchestrator._driver import Driver
from orchestrator._errors import AlreadyStarted, NotRunning, StartupTimeout, Stopped
from orchestrator._explain import Explanation, explain
from orchestrator._feed import Feed, Subscription
from orchestrator._log import TransitionLog
from orchestrator._logging import logger
from orchestrator._pacing import Pacer
from orchestrator._parts import check_parts, observers_of, reachable, stages_of, target_of
from orchestrator._ports import Clock, Observer, Probe, StartupContext
from orchestrator._prober import AlwaysAnswers
from orchestrator._tasks import BackgroundTasks, Closable, close_in_time
from states import Policy, Stage, StageChanged, StartupMachine

CallbackT = TypeVar("CallbackT", bound=Callback)

_READY = Stage.READY  # gates look it up for every request

_DRAIN_SECONDS = 1.0
"""How long callbacks may go on with what they have not seen when the orchestrator is left."""


class Orchestrator:
    """Takes a service through its start-up, and through outages later.

    Example::

        async with Orchestrator(RedisProbe(url), conditions=["chat-listener"]) as startup:
            await startup.wait_for(Stage.READY)

    Entering returns at once; the stages run beside the application. One orchestrator is good for
    one start-up. It is used from the event loop's thread only.

    Args:
        probe: What is asked, usually a `RedisProbe`.
        policy: Thresholds and durations; the defaults of `Policy` if not given.
        conditions: What must be true besides Redis: names, or `ConditionSpec` for optional ones.
        observers: Who sees every fact, such as an `OpenTelemetryObserver`.
        clock: Where time comes from; the event loop's if not given.
        enabled: False is the rollback: nothing is probed, and the service is ready at once.
        random: The source of jitter; seeded by the system if not given.

    Raises:
        DuplicateCondition: When a condition is declared twice.
        TypeError: When an argument is of the wrong type. The text never holds its value.
    """

    def __init__(
        self,
        probe: Probe,
        *,
        policy: Policy | None = None,
        conditions: Iterable[str | ConditionSpec] = (),
        observers: Sequence[Observer] = (),
        clock: Clock | None = None,
        enabled: bool = True,
        random: Random | None = None,
    ) -> None:
        check_parts(probe, policy, clock, random)
        self.policy: Policy = policy or Policy()
        self.enabled: bool = require_flag(enabled, "enabled")
        self._probe = probe
        self._observers = observers_of(observers)
        self._clock: Clock = clock or LoopClock()
        self._random = random
        self._declared = declare(conditions)
        self._conditions = Conditions(self._declared, self._tell)
        self._callbacks = Callbacks()
        self._machine = StartupMachine(self.policy, self._declared)
        self._driver: Driver | None = None
        self._feed: Feed | None = None
        self._tasks: BackgroundTasks | None = None
        self._running = False
        self._stopping = False

    # -- what is the case --------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """The current stage; `booting` until the orchestrator is entered."""
        return self._machine.stage

    @property
    def latest(self) -> StageChanged | None:
        """The last change of stage; `None` before the first."""
        return self._feed.latest if self._feed is not None else None

    @property
    def running(self) -> bool:
        """Whether the orchestrator is entered now."""
        return self._running

    @property
    def ended(self) -> str | None:
        """Why the orchestrator has ended, as it was stopped or left, or its driver failed.

        It is neither live nor ready then, and gates refuse new requests. `None` before, and always
        where it is disabled.
        """
        return self._driver.ended if self._driver is not None and self.enabled else None

    @property
    def ready(self) -> bool:
        """Whether the stage is `ready` and the orchestrator has not ended."""
        if self._machine.stage is not _READY or (driver := self._driver) is None:
            return False
        return driver.ended is None or not self.enabled

    @property
    def was_ready(self) -> bool:
        """Whether the service has ever been ready."""
        return self._machine.was_ready

    def explain(self) -> Explanation:
        """What the service waits for and why. Works at any time, and holds no secrets."""
        known = self._machine.snapshot
        now, next_at, lag = known.last_at, None, 0.0
        if self._driver is not None and self._running:
            now = max(now, self._clock.now())
            next_at, lag = self._driver.next_probe_at, self._driver.loop_lag_seconds
        return explain(known, now, self.ended, next_probe_at=next_at, loop_lag_seconds=lag)

    # -- events ------------------------------------------------------------------------------------

    def subscribe(self) -> Subscription:
        """A row of events: the latest at once, then each later one, once and in order.

        Raises:
            NotRunning: Before the orchestrator is entered or after it was left.
        """
        return self._require_running()[0].subscribe()

    async def wait_for(self, stage: Stage, *, timeout_seconds: float | None = None) -> StageChanged:
        """Wait until the service is in `stage`, and return the event that took it there.

        Raises:
            ValueError: For `booting`, to which no event leads.
            NotRunning: Before the orchestrator is entered or after it was left.
            StartupTimeout: After `timeout_seconds`; the text names what was still missing.
            Stopped: When the orchestrator is left meanwhile.
        """
        stage = reachable(stage)
        events = self.subscribe()
        until = math.inf if timeout_seconds is None else self._clock.now() + timeout_seconds
        with self._clock.cancel_at(until):
            async for event in events:
                if event.current is stage:
                    return event
            raise Stopped(f"the orchestrator was left before the service became {stage}")
        waits = "; ".join(self.explain().waits_for) or "nothing"
        raise StartupTimeout(
            f"not {stage} within {timeout_seconds:g} s: in stage {self.stage}, waiting for {waits}"
        )

    def on(self, *stages: Stage) -> Callable[[CallbackT], CallbackT]:
        """Decorate a plain or async function to be called each time one of `stages` is entered.

        It is called with the event, one call at a time, in order, in a task of its own; if the
        service is in such a stage already, at once. What it raises is logged once and counted, and
        it is called again at the next event. Plain functions run on the event loop and must not
        block it. When the orchestrator is left, callbacks get 1 s to see what they have not seen,
        and are then cancelled.
        """
        wanted = stages_of(stages)

        def register(callback: CallbackT) -> CallbackT:
            if not callable(callback):
                raise wrong_type(callback, "the callback", "a function", "do not call it yourself")
            self._callbacks.register(wanted, callback)
            return callback

        return register

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers, in the order in which they are told."""
        return tuple(self._observers)

    def observe(self, observer: Observer) -> None:
        """Add an observer before the orchestrator is entered.

        Raises:
            AlreadyStarted: Later: it would not see the whole start-up.
        """
        if self._tasks is not None:
            raise AlreadyStarted("add observers before the orchestrator is entered")
        self._observers += observers_of([observer])

    # -- conditions --------------------------------------------------------------------------------

    def condition(self, name: str) -> Condition:
        """The handle on a declared condition.

        Raises:
            UnknownCondition: When it was not declared.
        """
        return self._conditions.handle(name)

    def _tell(self, name: str, satisfied: bool, reason: str) -> None:
        if self._stopping:
            return
        self._require_running()[1].tell(name, satisfied, reason)

    # -- entering and leaving ----------------------------------------------------------------------

    def stop(self) -> None:
        """Begin to leave: the stage stays as it is, no more facts are taken, every stream ends.

        Call it where a service begins to shut down its background tasks, so that their conditions,
        which fall now, are not taken for an outage. From then on `ended` says so: health checks
        fail and gates refuse new requests, while those inside go on. Leaving the context does it
        too, and `lifespan` before the application's own shutdown. A second call does no harm.
        """
        if self._driver is not None and self._feed is not None:
            self._stopping = True
            self._driver.stop()
            self._feed.close()

    async def __aenter__(self) -> Self:
        if self._tasks is not None:
            raise AlreadyStarted(
                "this orchestrator was entered before; make a new one for each start-up. Is it"
                " entered in two places, such as lifespan(startup) and manage_lifespan=True? Where"
                " an application starts several times, as in tests, make it in a function"
            )
        self._tasks = BackgroundTasks()
        tasks = await self._tasks.open()
        try:
            await self._start(tasks)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def _start(self, tasks: TaskGroup) -> None:
        probe, policy, declared = self._probe, self.policy, self._declared
        if not self.enabled:
            logger.warning(
                "the startup orchestrator is disabled: nothing is probed, every client is admitted"
            )
            probe = AlwaysAnswers()
            policy = Policy(platform=policy.platform, grace_seconds=0.0)
            declared = dict.fromkeys(declared, False)
        probe.prepare(policy)
        now = self._clock.now()
        started_at = min(now, self._clock.started_at())
        self._machine = StartupMachine(policy, declared, started_at)
        self._feed = Feed()
        pacer, observers = Pacer(policy, self._random), (TransitionLog(), *self._observers)
        self._driver = Driver(
            self._machine, self._feed, probe, pacer, self._clock, observers, policy
        )
        # Side by side: what lies between these two readings makes every date wrong by as much.
        now, wall = self._clock.now(), time.time_ns()
        told = (policy, target_of(probe), declared, started_at, now, wall, self.enabled)
        context = StartupContext(*told)
        self._driver.begin_observers(context)
        tasks.start_soon(self._feed.deliver)
        await tasks.start(self._driver.run)
        self._running = True
        self._callbacks.start(tasks, self._feed)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running = False
        tasks = self._tasks
        if tasks is None:
            raise NotRunning("the orchestrator is left, but was never entered")
        try:
            self.stop()
            self._callbacks.stop()
            if error is None:
                await self._callbacks.drain(_DRAIN_SECONDS)
        finally:
            try:
                await tasks.close(error)
            finally:
                await self._let_go()

    async def _let_go(self) -> None:
        if self._feed is not None:
            self._feed.wake_remaining()
        parts: list[Closable] = [self._probe]
        if self._driver is not None:
            at = max(self._clock.now(), self._machine.snapshot.last_at)
            self._driver.end_observers(at)
            parts += self._driver.observers
        await close_in_time(*parts)
        await close_in_time(logger)  # last, since all of them may have logged

    # -- inside ------------------------------------------------------------------------------------

    def _require_running(self) -> tuple[Feed, Driver]:
        if not self._running or self._feed is None or self._driver is None:
            when = "any more: it was left" if self._tasks is not None else "yet: it is not entered"
            raise NotRunning(
                f"the orchestrator does not run {when}; use it inside"
                " `async with Orchestrator(...) as startup`"
            )
        return self._feed, self._driver
