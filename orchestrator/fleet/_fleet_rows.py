"""A fleet as a table: which rows, in which order, and the totals. Pure.

What is wrong stands on top, the oldest trouble first; what left stands at the end.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from orchestrator.fleet._news import Instance
from orchestrator.fleet._presence import PresenceVerdict
from orchestrator.fleet._wire import FleetState
from states import Stage

_FEWEST_TO_COMPARE = 3
"""A median of fewer instances says nothing about one of them."""

_SLOW_FACTOR = 2.0
_SLOW_SECONDS = 0.1
"""A step is slow if it took twice the median, and this much longer."""


@dataclass(frozen=True, slots=True)
class FleetRow:
    """One instance, as it is shown.

    Attributes:
        instance: The instance.
        trouble_since: Since when something is wrong with it, in Unix seconds; `None` if all is
            well, or if it left.
        untold: What keeps it from telling its later changes; empty if it has told all.
        waits_for: What it waits for, in words.
        failure: Why its last attempt failed; empty if it did not.
        slow_step: The step of its start that took far longer than elsewhere; empty for none.
    """

    instance: Instance
    trouble_since: float | None
    untold: str
    waits_for: str
    failure: str
    slow_step: str

    @property
    def words(self) -> Iterable[str]:
        """What a filter looks at."""
        one = self.instance
        return (
            one.name,
            one.incarnation,
            one.version,
            one.stage,
            one.presence,
            self.untold,
            self.waits_for,
            self.failure,
            self.slow_step,
        )


@dataclass(frozen=True, slots=True)
class FleetTotals:
    """How many instances there are; those that left do not count.

    Attributes:
        by_stage: How many are in each stage.
        by_version: For each version, how many are in each stage.
        by_presence: How many have each verdict.
    """

    by_stage: Mapping[Stage, int] = field(default_factory=dict)
    by_version: Mapping[str, Mapping[Stage, int]] = field(default_factory=dict)
    by_presence: Mapping[PresenceVerdict, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.by_stage.values())


def fleet_rows(
    instances: Collection[Instance], *, version: str | None = None, text: str = ""
) -> list[FleetRow]:
    """The rows of a fleet, the oldest trouble first.

    Args:
        instances: All of its instances.
        version: Show only those that run this.
        text: Show only those with this text somewhere in their row, in whatever case.
    """
    medians = _median_steps(instances)
    wanted = text.casefold()
    rows = [
        row
        for one in instances
        if version is None or one.version == version
        for row in [_row(one, medians)]
        if not wanted or any(wanted in word.casefold() for word in row.words)
    ]
    return sorted(rows, key=_order)


def fleet_totals(instances: Iterable[Instance]) -> FleetTotals:
    """The totals of these instances."""
    there = [one for one in instances if one.presence is not PresenceVerdict.LEFT]
    stages = Counter(one.stage for one in there)
    versions = {one.version: Counter[Stage]() for one in there}
    for one in there:
        versions[one.version][one.stage] += 1
    presences = Counter(one.presence for one in there)
    return FleetTotals(
        {stage: stages[stage] for stage in Stage if stage in stages},
        {
            version: {stage: count[stage] for stage in Stage if stage in count}
            for version, count in sorted(versions.items())
        },
        {one: presences[one] for one in PresenceVerdict if one in presences},
    )


def _row(instance: Instance, medians: Mapping[str, float]) -> FleetRow:
    state = instance.state
    failing = state.failure if state.failures_in_row else None
    return FleetRow(
        instance,
        _trouble_since(instance),
        untold_words(state),
        "; ".join(state.waits_for),
        failing.reason if failing else "",
        _slow_step(instance, medians),
    )


def untold_words(state: FleetState) -> str:
    """How many changes an instance could not tell, and why; empty if it has told all."""
    if not state.untold:
        return ""
    changes = "1 later change is" if state.untold == 1 else f"{state.untold} later changes are"
    return f"{changes} not known" + (f": {state.held_back}" if state.held_back else "")


def _trouble_since(instance: Instance) -> float | None:
    if instance.presence is PresenceVerdict.LEFT or instance.is_ready:
        return None
    if instance.presence is PresenceVerdict.ALIVE:
        return instance.since
    return instance.presence_since


def _order(row: FleetRow) -> tuple[int, float, str, str]:
    one = row.instance
    rank = int(row.trouble_since is None) + int(one.presence is PresenceVerdict.LEFT)
    return rank, row.trouble_since or 0.0, one.name, one.incarnation


def _median_steps(instances: Iterable[Instance]) -> Mapping[str, float]:
    """How long each step of a start takes in this fleet, where enough instances have it."""
    seconds: dict[str, list[float]] = {}
    for one in instances:
        for step, took in one.state.steps.items():
            seconds.setdefault(step, []).append(took)
    return {step: median(took) for step, took in seconds.items() if len(took) >= _FEWEST_TO_COMPARE}


def _slow_step(instance: Instance, medians: Mapping[str, float]) -> str:
    slow = [
        (took - medians[step], step, took)
        for step, took in instance.state.steps.items()
        if step in medians and took > _SLOW_FACTOR * medians[step] + _SLOW_SECONDS
    ]
    if not slow:
        return ""
    _, step, took = max(slow)
    return f"{step} {took:.1f} s, the fleet's median {medians[step]:.1f} s"
