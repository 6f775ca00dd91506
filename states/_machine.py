"""The state machine: facts in, changes of stage out. No I/O, no clock, no tasks.

The driver (`orchestrator/_core/driver.py`) feeds it. The `Counters` count each fact, and then the
rows of the table are tried, from top to bottom, with the guards of `_guards.py`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import MappingProxyType

from transitions import Machine

from states._counters import Counters, declared
from states._errors import IllegalFact
from states._events import Snapshot, StageChanged
from states._facts import ConditionChanged, Fact
from states._guards import HOLDS
from states._policy import Policy
from states._stages import Stage
from states._table import LEGAL, TABLE

ENGINE_NAME = "startup-orchestrator"
"""With this name begins every line that the engine logs for one of our machines."""


_STAGES = {stage.value: stage for stage in Stage}
_TAKEN = {
    stage.value: frozenset(fact for row in TABLE if row.source is stage for fact in row.facts)
    for stage in Stage
}
"""The facts that some row of the table takes; the others only count, and the engine is not asked:
that saves a steady service most of what an answer costs."""

_LEGAL = {stage.value: legal for stage, legal in LEGAL.items()}  # a member is slow to look up


@cache
def _engine() -> dict[type[Fact], Callable[[Counters, Counters, Fact], object]]:
    """Build the table into a `transitions.Machine`; return what to call for each type of fact.

    That takes the counters as the engine's model, and what the guards are called with: the
    counters, and the fact.

    The engine keeps nothing of its own, so that one serves all machines of a process: to build it
    takes as long as many transitions, and each check has a machine.

    It is given the stages' values: of members of an enumeration it would look up the name a dozen
    times for each transition, which is a tenth of what a transition costs.
    """
    machine = Machine(
        model=None,
        states=list(_STAGES),
        initial=Stage.BOOTING.value,
        model_attribute="engine_stage",
        auto_transitions=False,
        name=ENGINE_NAME,
    )
    for row in TABLE:
        for fact in row.facts:
            machine.add_transition(
                fact.__name__, row.source.value, row.target.value, conditions=HOLDS[row.guard]
            )
    return {fact: machine.events[fact.__name__].trigger for row in TABLE for fact in row.facts}


class StartupMachine:
    """Says in which stage a service is, given what happened.

    Feed it every fact in order with `receive`, and a `TimerFired` when the time `wake_at` has come.
    All else only reads.

    Args:
        policy: Thresholds and durations.
        conditions: The names of the required conditions, or a mapping of names to whether each is
            required. All are false at first.
        started_at: When the process started, in the monotonic seconds of the facts.

    Attributes:
        stage: The current stage. Only read it: it is plain because gates ask for every request.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        conditions: Mapping[str, bool] | Iterable[str] = (),
        started_at: float = 0.0,
    ) -> None:
        self._counters = Counters(policy or Policy(), declared(conditions), started_at)
        self._trigger = _engine()
        self._sequence = 0
        self.stage: Stage = self._counters.stage

    @property
    def was_ready(self) -> bool:
        """Whether the service has ever been ready."""
        return self._counters.ready_since is not None

    @property
    def draining_since(self) -> float | None:
        """When the first `DrainBegan` was taken; `None` before."""
        return self._counters.draining_since

    @property
    def wake_at(self) -> float | None:
        """When the machine wants its next `TimerFired`, in monotonic seconds; `None`: not now."""
        return self._counters.wake_at

    def holds(self, name: str | None) -> bool:
        """Whether a condition holds; without a name, whether the probe answers.

        Raises:
            KeyError: When no condition of this name was declared.
        """
        counters = self._counters
        return counters.probe_answers if name is None else counters.conditions[name].satisfied

    def receive(self, fact: Fact) -> StageChanged | None:
        """Take one fact; return the transition that it caused, if any.

        Raises:
            IllegalFact: When the fact cannot be true now. The machine has not changed.
        """
        counters = self._counters
        previous = counters.stage
        if type(fact) not in _LEGAL[counters.engine_stage]:
            raise IllegalFact(f"{type(fact).__name__} cannot be true in stage {previous}")
        if not counters.last_at <= fact.at < math.inf:  # NaN is not either
            raise IllegalFact(
                f"{type(fact).__name__} is at {fact.at}, before the last fact's"
                f" {counters.last_at}: time cannot run backwards"
            )
        if type(fact) is ConditionChanged and fact.name not in counters.conditions:
            known = ", ".join(map(repr, counters.conditions)) or "none"
            raise IllegalFact(f"condition {fact.name!r} was never declared; declared: {known}")
        counters.count(fact)
        if counters.draining_since is None and type(fact) in _TAKEN[counters.engine_stage]:
            self._trigger[type(fact)](counters, counters, fact)
        reached = _STAGES[counters.engine_stage]
        if reached is previous:
            return None
        elapsed = fact.at - counters.since
        counters.enter(reached, fact.at)
        self._sequence += 1
        self.stage = reached
        all_there = counters.probe_answers and not counters.unmet
        waits_for = () if all_there else counters.waits_for()
        return StageChanged(self._sequence, previous, reached, fact, fact.at, elapsed, waits_for)

    @property
    def snapshot(self) -> Snapshot:
        """All that the machine knows, at the time of its last fact."""
        counters = self._counters
        seconds = dict(counters.stage_seconds)
        seconds[counters.stage] += counters.last_at - counters.since
        failed = counters.last_failure
        return Snapshot(
            stage=counters.stage,
            since=counters.since,
            last_at=counters.last_at,
            sequence=self._sequence,
            in_startup=counters.in_startup,
            was_ready=self.was_ready,
            attempts=counters.attempts,
            failures_in_row=counters.failures_in_row,
            congested_in_row=counters.congested_in_row,
            probe_answers=counters.probe_answers,
            last_success_at=counters.last_success_at,
            last_failure=failed.failure if failed else None,
            last_failure_at=failed.at if failed else None,
            outage_since=counters.outage_since,
            budget_ends_at=counters.budget_ends_at,
            grace_seconds=counters.grace_seconds,
            grace_left_seconds=counters.grace_left_seconds,
            grace_stalls=counters.stalls,
            falls=counters.falls,
            conditions=MappingProxyType(dict(counters.conditions)),
            waits_for=counters.waits_for(),
            stage_seconds=MappingProxyType(seconds),
            draining_since=counters.draining_since,
        )
