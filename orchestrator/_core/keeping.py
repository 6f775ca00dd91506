"""Conditions that keep themselves: each runs beside the start-up once what it comes after holds.

A keeper is a coroutine of a condition, such as the attempts of a check or a supervised task. All
keepers of a start-up run side by side. When the orchestrator is left, they are stopped one after
the other, each before those that it comes after.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random

import anyio

from orchestrator._core.conditions import ConditionSpec, SetCondition
from orchestrator._core.order import PROBE, in_order, names_of
from orchestrator._errors import DuplicateCondition
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock, KeptFact, KeptStep, Observer, Target
from orchestrator._probing.shared_turns import SharedTurns
from states import Fact, ProbeFailed, ProbeSucceeded, StageChanged, StartupMachine

ReportKept = Callable[[KeptFact], None]
"""Tells observers what happens inside a condition."""


class KeptCondition(ConditionSpec, ABC):
    """The declaration of a condition that keeps itself. Subclass it and write `keep`.

    Args:
        name: Its name, as it appears in events, pages and traces.
        required: Whether ready needs it; one that is not required only reports.
        after: The conditions that must hold before it begins; `redis` is the orchestrator's own
            probe. One that falls later does not stop it.
    """

    after: tuple[str, ...]
    stop_seconds: float = 0.0
    """How long it may take to end once it is cancelled."""
    loads: str = ""
    """What it does, if it loads the application, such as `importing chat`. Until its keeper says
    `loaded`, the start-up is not complete, not even when the budget is spent: `/startupz` fails, so
    that platforms end what hangs."""

    def __init__(self, name: str, *, required: bool = True, after: Iterable[str] = ()) -> None:
        super().__init__(name, required)
        object.__setattr__(self, "after", names_of(after))

    @property
    def target(self) -> Target | None:
        """What is asked; `None` where nothing is."""
        return None

    def in_rollback(self) -> "KeptCondition | None":
        """What is kept of it where the orchestrator is disabled; `None` for nothing."""
        return None

    @abstractmethod
    async def keep(self, kept: "Kept") -> None:
        """Say with `kept.set` whether the condition holds, until cancelled.

        Once cancelled it must end soon, whatever the application's code does.
        """


class Kept:
    """What a keeper gets to work with.

    Attributes:
        name: The condition's name.
        clock: The time.
        random: The source of jitter.
        fleet_size: Tells how many instances of the service there are.
        turns: When steady checks are asked.
        beats_at: When the condition's `beat` was called last; `-inf` before.
        loaded: Whether what it loads is there.
        words: Given the time, what to say in place of the reason while it does not hold; in full
            for operators, or as for everybody.
    """

    def __init__(self, name: str, spec: KeptCondition, keeping: "Keeping") -> None:
        self.name: str = name
        self.spec: KeptCondition = spec
        self.clock: Clock = keeping.clock
        self.random: Random = keeping.random
        self.fleet_size: Callable[[], int] = keeping.fleet_size
        self.turns: SharedTurns = keeping.turns
        self.beats_at: float = -math.inf
        self.loaded: bool = False
        self.words: Callable[[float, bool], str] | None = None
        self.began: bool = False
        self._after = spec.after
        self._keeping = keeping
        self._said: tuple[bool, str] | None = None
        self.scope: anyio.CancelScope = anyio.CancelScope()
        self.ended: anyio.Event = anyio.Event()

    def set(self, satisfied: bool, reason: str = "") -> None:
        """Say whether the condition holds, and why. Saying the same again costs nothing."""
        if self._said != (satisfied, reason):
            self._said = (satisfied, reason)
            self._keeping.set_condition(self.name, satisfied, reason)

    def give_up(self, reason: str) -> None:
        """Say that the condition will not hold again in this process, and why."""
        reason = f"down for good: {reason}"
        logger.error("condition %s is %s", self.name, reason)
        if self.spec.required:
            self._keeping.down_for_good[self.name] = reason
        self.set(False, reason)
        self.report(KeptStep.DOWN, reason)

    def report(
        self,
        step: KeptStep,
        reason: str = "",
        attempt: ProbeSucceeded | ProbeFailed | None = None,
    ) -> None:
        """Tell observers what happens inside; it has no effect on the condition."""
        at = self.clock.now() if attempt is None else attempt.at
        self._keeping.report(KeptFact(at, self.name, step, attempt, reason))

    async def until_its_turn(self) -> None:
        """Wait until all that the condition comes after holds; meanwhile say what it waits for."""
        while missing := self._keeping.missing(self._after):
            self.set(False, "after " + ", ".join(missing))
            await self._keeping.changed()

    async def until_something_falls(self) -> str:
        """Wait until something that the condition comes after falls; return what to say then."""
        while not (missing := self._keeping.missing(self._after)):
            await self._keeping.changed()
        return "after " + ", ".join(missing)


def kept_among(specs: Mapping[str, ConditionSpec]) -> dict[str, KeptCondition]:
    """The conditions that keep themselves, each behind all that it comes after.

    Raises:
        ConditionOrderError: When a name is unknown, or conditions wait for each other in a circle.
    """
    kept = {name: spec for name, spec in specs.items() if isinstance(spec, KeptCondition)}
    order = in_order({name: spec.after for name, spec in kept.items()}, specs)
    return {name: kept[name] for name in order}


def order_of(kept: Mapping[str, KeptCondition]) -> dict[str, tuple[str, ...]]:
    """For each condition that comes after others, their names."""
    return {name: spec.after for name, spec in kept.items() if spec.after}


def refuse_kept(name: str, kept: Mapping[str, KeptCondition]) -> None:
    """Refuse to set a condition from outside that keeps itself.

    Raises:
        DuplicateCondition: When it is one.
    """
    if name in kept:
        raise DuplicateCondition(
            f"condition {name!r} is held by the {type(kept[name]).__name__} that was declared;"
            " nothing else can set it"
        )


class Keeping(Observer):
    """The keepers of one start-up.

    Args:
        machine: What is known.
        specs: The conditions that keep themselves, each behind all that it comes after.
        clock: The time.
        random: The source of jitter.
        fleet_size: Tells how many instances of the service there are.

    Attributes:
        down_for_good: The required conditions that will not hold again in this process, and why.
    """

    def __init__(
        self,
        machine: StartupMachine,
        specs: Mapping[str, KeptCondition],
        clock: Clock,
        random: Random | None,
        fleet_size: Callable[[], int] = lambda: 1,
    ) -> None:
        self.clock: Clock = clock
        self.random: Random = random or Random()
        self.fleet_size: Callable[[], int] = fleet_size
        self.turns: SharedTurns = SharedTurns(self.random)
        self._machine = machine
        self._kept = {name: Kept(name, spec, self) for name, spec in specs.items()}
        self._changed: anyio.Event | None = None
        self.down_for_good: dict[str, str] = {}
        self.set_condition: SetCondition
        self.report: ReportKept

    @property
    def needs_restart(self) -> str | None:
        """Why only a restart of the process helps; `None` while it does not take that."""
        for name, reason in tuple(self.down_for_good.items()):
            return f"condition {name} is {reason}"
        return None

    @property
    def stop_seconds(self) -> float:
        """How long stopping them all takes at most."""
        return sum(kept.spec.stop_seconds for kept in self._kept.values() if kept.began)

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Check again whether those that wait for their turn may begin."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def missing(self, names: Sequence[str]) -> list[str]:
        """Which of these do not hold."""
        holds = self._machine.holds
        return [name for name in names if not holds(None if name == PROBE else name)]

    async def changed(self) -> None:
        """Return when something may hold that did not hold before."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def words(self, now: float) -> dict[str, str]:
        """What to say now of conditions whose reason keeps changing, by name; from any thread."""
        return {name: kept.words(now, True) for name, kept in self._kept.items() if kept.words}

    def loading(self, now: float) -> str | None:
        """What of the application is still being loaded; `None` once nothing is. For everybody."""
        for kept in self._kept.values():
            if kept.spec.loads and not kept.loaded:
                return kept.words(now, False) if kept.words else kept.spec.loads
        return None

    def beat(self, name: str, at: float) -> None:
        """The condition of this name still holds; from any thread."""
        if name in self._kept:
            self._kept[name].beats_at = at

    async def run(self, set_condition: SetCondition, report: ReportKept) -> None:
        """Run all keepers, until they are stopped or cancelled.

        Args:
            set_condition: Says of a condition whether it holds, and why.
            report: Tells observers what happens inside of one.
        """
        self.set_condition, self.report = set_condition, report
        async with anyio.create_task_group() as tasks:
            for kept in self._kept.values():
                kept.began = True
                tasks.start_soon(self._keep, kept)

    async def stop(self) -> None:
        """Stop them one by one, the last in order first.

        Checks have no work to finish in order, and one that hangs takes its full time, so they stop
        together.
        """
        for kept in self._kept.values():
            if kept.began and kept.spec.target is not None:
                kept.scope.cancel()
        for kept in reversed(self._kept.values()):
            if kept.began:
                kept.scope.cancel()
                await kept.ended.wait()

    async def _keep(self, kept: Kept) -> None:
        try:
            with kept.scope:
                await kept.until_its_turn()
                kept.report(KeptStep.BEGAN)
                await kept.spec.keep(kept)
            if not kept.scope.cancel_called:
                kept.give_up("its keeper has ended")
        except Exception as error:  # whatever a keeper does, the others and the machine go on
            logger.error("condition %s is kept no longer", kept.name, error=error)
            kept.give_up(f"its keeper ended with {type(error).__name__}")
        finally:
            kept.ended.set()
