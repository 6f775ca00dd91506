"""The orchestrator as an application uses it."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Self, TypeVar

from orchestrator._core.callbacks import Callback, call_back
from orchestrator._core.companions import Companion
from orchestrator._core.conditions import Condition, Conditions, ConditionSpec, declare
from orchestrator._core.drain import DrainParts
from orchestrator._core.drain_access import DrainAccess
from orchestrator._core.drain_command import hear_drain_command
from orchestrator._core.feed import Subscription
from orchestrator._core.keeping import kept_among, refuse_kept
from orchestrator._core.life import Life
from orchestrator._core.parent_report import report_to_parent
from orchestrator._core.parts import Parts, check_parts, observers_of, stages_of, waited_for
from orchestrator._core.wait_for import wait_for, wait_for_sync
from orchestrator._errors import AlreadyStarted, NotRunning, WrongThread
from orchestrator._hardening.arguments import require_flag, wrong_type
from orchestrator._hardening.text import reason_of
from orchestrator._ports import Clock, Observer, Probe
from orchestrator._runtime.clock import LoopClock
from orchestrator._runtime.fork import forget_in_child
from states import Policy, Stage, StageChanged, StartupMachine

if TYPE_CHECKING:
    from orchestrator._runtime.loop_thread import LoopThread

CallbackT = TypeVar("CallbackT", bound=Callback)

_USE = "use it inside `async with Orchestrator(...) as startup`"


class Orchestrator(DrainAccess):
    """Takes a service through its start-up, and through outages later.

    Example::

        async with Orchestrator(RedisProbe(url), conditions=["chat-listener"]) as startup:
            await startup.wait_for(Stage.READY)

    Entering returns at once; the stages run beside the application, in a task of their own. So
    you may enter in one task and leave in another, as fixtures and hooks do with `start` and
    `aclose`. Without an event loop, use `run_in_thread`. Entering again is a new start-up. `stage`,
    `explain`, `wait_for`, `on`, `stop` and conditions work from any thread.

    Args:
        probe: What is asked, usually a `RedisProbe`.
        policy: Thresholds and durations; the defaults of `Policy` if not given.
        conditions: What must be true besides Redis: names, `ConditionSpec`, `Check` and `Task`.
        observers: What sees every fact, such as an `OpenTelemetryObserver`.
        clock: Where time comes from; the event loop's if not given.
        enabled: False is the rollback: nothing is probed, and the service is ready at once.
        random: The source of jitter; seeded by the system if not given.

    Raises:
        DuplicateCondition: When a condition is declared twice.
        ConditionOrderError: When conditions come after each other in a circle, or after an unknown
            name.
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
        self._observers = [*observers_of(observers), *report_to_parent()]
        self._clock: Clock = clock or LoopClock()
        self._random = random
        self.life_number: int = 0
        number = partial(getattr, self, "life_number")
        self._conditions = Conditions(self._set_condition, number, self._beat)
        self._companions: list[Companion] = [partial(hear_drain_command, self)]
        self._drain_parts = DrainParts()
        self._life: Life | None = None
        self._specs: dict[str, ConditionSpec] = {}
        self._take(declare(conditions))
        self._process = 0

    # -- events ------------------------------------------------------------------------------------

    def subscribe(self) -> Subscription:
        """Stream stage changes: the latest first, then each new one exactly once, in order.

        Raises:
            NotRunning: Before the orchestrator is entered or after it was left.
            WrongThread: On another event loop than the one on which it was entered.
        """
        life = self._require_running()
        if not life.loop.is_current:
            raise WrongThread(
                "a stream of events is read on the event loop on which the orchestrator was"
                " entered; elsewhere use wait_for, or stage and explain"
            )
        return life.feed.subscribe()

    async def wait_for(self, stage: Stage, *, timeout_seconds: float | None = None) -> StageChanged:
        """Wait until the service is in `stage`, and return the event that took it there.

        It may be awaited on any event loop, in any thread. See also `wait_for_sync`.

        Raises:
            TypeError: When `stage` is no stage, or `timeout_seconds` no number.
            ValueError: For `booting`, to which no event leads, and a time limit that is NaN.
            NotRunning: Before the orchestrator is entered or after it was left.
            StartupTimeout: After `timeout_seconds`; the text names what was still missing.
            Stopped: When the orchestrator is left meanwhile.
        """
        return await wait_for(*waited_for(stage, timeout_seconds), self._require_running())

    def wait_for_sync(self, stage: Stage, *, timeout_seconds: float | None = None) -> StageChanged:
        """Block until the service is in `stage`, in a thread without an event loop.

        Raises:
            WrongThread: On the event loop itself, which it would block for ever. Otherwise as
                `wait_for`.
        """
        return wait_for_sync(*waited_for(stage, timeout_seconds), self._require_running())

    def on(self, *stages: Stage) -> Callable[[CallbackT], CallbackT]:
        """Decorate a plain or async function to be called each time one of `stages` is entered.

        It gets the event, one call at a time, in order, in a task of its own; if the service is in
        such a stage already, at once. What it raises is logged once, and it is called again at the
        next event. Plain functions must not block. When the orchestrator is left, callbacks get 1 s
        for what they have not seen, and are cancelled. `aclose` in a callback only begins to leave.
        A callback registered before entering is called in every start-up; a later one, only in
        this.
        """
        wanted = stages_of(stages)

        def register(callback: CallbackT) -> CallbackT:
            if not callable(callback):
                raise wrong_type(callback, "the callback", "a function", "do not call it yourself")
            companion = partial(call_back, wanted, callback)
            life = self._life
            if life is None or life.is_over():
                self._companions.append(companion)
            else:
                life.accompany(companion)
            return callback

        return register

    def accompany(self, companion: Companion) -> None:
        """Run it beside this start-up and each later one."""
        self._companions.append(companion)
        if self._life is not None:
            self._life.accompany(companion)

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers, in their order."""
        return tuple(self._observers)

    def observe(self, observer: Observer) -> None:
        """Add an observer before the orchestrator is entered; later it raises `AlreadyStarted`."""
        if self._life is not None and not self._life.is_over():
            raise AlreadyStarted("add observers before the orchestrator is entered")
        self._observers += observers_of([observer])

    # -- conditions --------------------------------------------------------------------------------

    def condition(self, name: str) -> Condition:
        """The handle on a declared condition.

        Raises:
            UnknownCondition: When it was not declared.
        """
        return self._conditions.handle(name)

    def declare(self, *conditions: str | ConditionSpec) -> None:
        """Add conditions before the orchestrator is entered, for code that is given one.

        Raises:
            AlreadyStarted: When it is entered already.
            DuplicateCondition: When one of this name was declared before.
            ConditionOrderError: As when it is built.
        """
        if self._life is not None and not self._life.is_over():
            raise AlreadyStarted("declare conditions before the orchestrator is entered")
        self._take(declare([*self._specs.values(), *conditions]))

    def _take(self, specs: dict[str, ConditionSpec]) -> None:
        self._kept = kept_among(specs)
        self._specs = specs
        self._declared = {name: spec.required for name, spec in specs.items()}
        self.optional: frozenset[str] = frozenset(
            name for name, spec in specs.items() if not spec.required
        )
        self._conditions.add(specs)
        self._machine = StartupMachine(self.policy, self._declared)

    def _set_condition(self, name: str, satisfied: bool, reason: str) -> None:
        refuse_kept(name, self._kept)
        (self._life or self._require_running()).set_condition(name, satisfied, reason)

    def _beat(self, name: str) -> None:
        if self._life is not None:
            self._life.keeping.beat(name, self._life.now())

    # -- entering and leaving ----------------------------------------------------------------------

    async def start(self) -> Self:
        """Enter the orchestrator where `async with` does not fit, as in a start hook."""
        return await self.__aenter__()

    async def aclose(self) -> None:
        """Leave it where `async with` does not fit, from any task. A second call does no harm.

        Raises:
            BaseException: What the start-up had failed with, such as `sys.exit()` in a callback.
            WrongThread: On another event loop than the one on which it was entered.
        """
        if self._life is not None:
            await self._life.end(None)

    def run_in_thread(self) -> "LoopThread[Self]":
        """Enter the orchestrator in a thread with an event loop of its own.

        Example::

            with startup.run_in_thread():
                startup.wait_for_sync(Stage.READY)

        For scripts, Flask, Django under WSGI, Celery workers. Where a server forks, do it in the
        server's hook after the fork. Where `with` does not fit, use `start` and `close` of this.
        """
        from orchestrator._runtime.loop_thread import LoopThread

        return LoopThread(self)

    def stop(self, reason: str = "") -> None:
        """Begin to leave: the stage stays as it is, no more facts are taken, every stream ends.

        Call it before a service ends its background tasks: what falls then is no outage. Health
        checks fail and gates refuse new requests. `lifespan` calls it before the shutdown.

        Args:
            reason: One line that says why, for `ended`, health checks and `explain`; no secrets.
        """
        if (life := self._life) is not None and not life.is_over():
            life.on_loop(partial(life.stop, reason_of(reason) or "stop() was called"))

    async def __aenter__(self) -> Self:
        if self._life is not None and not self._life.is_over():
            raise AlreadyStarted(
                "this orchestrator is entered already, and must be left before it is entered again."
                " Is it entered in two places, such as lifespan(startup) and manage_lifespan=True?"
            )
        first, self._process = self._process != os.getpid(), os.getpid()
        observers, companions = tuple(self._observers), tuple(self._companions)
        given = self._probe, self.policy, self._declared, self._kept, observers, companions
        parts = Parts(*given, self._drain_parts, self._clock, self._random, self.enabled, first)
        self._life = life = Life(parts)
        self._machine = life.machine
        self.life_number += 1
        forget_in_child(self)
        await life.begin()
        return self

    async def __aexit__(
        self, _kind: object, error: BaseException | None, *_traceback: object
    ) -> None:
        if self._life is not None:
            await self._life.end(error)
        elif not self.life_number:  # else it is a fork's child that comes out of its parent's block
            raise NotRunning("the orchestrator is left, but was never entered")

    # -- inside ------------------------------------------------------------------------------------

    def _require_running(self) -> Life:
        if self._life is None:
            raise NotRunning(f"the orchestrator does not run yet: it is not entered; {_USE}")
        return self._life.require_running(_USE)

    def forked(self) -> None:
        """This process is a new one: in it, nothing was entered."""
        if self._life is not None:
            self._life.detach()
            self._life = None
        self._machine = StartupMachine(self.policy, self._declared)
        self._conditions.forget()
