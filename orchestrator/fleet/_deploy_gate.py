"""Decides when a rollout may go on: when enough new instances have been ready for long enough.

Pure: instances and time come in, a verdict comes out. It never relies on old knowledge: while Redis
is away every instance is `unknown`, and so not ready.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.fleet._fleet_rows import untold_words
from orchestrator.fleet._news import Instance
from orchestrator.fleet._presence import PresenceVerdict
from states import FailureKind, Stage

_MOST_NAMES = 5
_THERE = (PresenceVerdict.ALIVE, PresenceVerdict.STUCK)


class DeployOutcome(StrEnum):
    """How a deploy gate decided. The values are stable: they appear in JSON."""

    PASSED = "passed"
    FAILED = "failed"
    """Too many instances were not ready when their start-up budget was spent."""

    PERMANENT_FAILURE = "permanent_failure"
    """Too many instances can't get ready, and waiting won't help."""

    TIMED_OUT = "timed_out"
    UNREACHABLE = "unreachable"
    """Redis could not be asked."""


@dataclass(frozen=True, slots=True)
class DeployStanding:
    """How the new version stands.

    Attributes:
        ready: How many of its instances are ready now.
        steady: How many of them have been so for long enough.
        waits_for: For each instance that is not ready, why, in words.
        old: For each other version that is still there, its instances in words.
        was_seen: Whether there ever was an instance of the new version.
    """

    ready: int
    steady: int
    waits_for: tuple[str, ...]
    old: tuple[str, ...]
    was_seen: bool


class DeployGate:
    """Decides on one new version.

    Args:
        wanted: So many instances must be ready.
        version: What they run.
        for_seconds: For how long each of them must have been ready without a break.
        allow_degraded: So many may fail to get ready.

    Attributes:
        standing: How the new version stood at the last look.
    """

    def __init__(
        self, wanted: int, version: str, *, for_seconds: float = 10.0, allow_degraded: int = 0
    ) -> None:
        self.wanted = wanted
        self.version = version
        self.standing: DeployStanding = DeployStanding(0, 0, (), (), was_seen=False)
        self._for_seconds = for_seconds
        self._allow_degraded = allow_degraded
        self._ready_since: dict[str, tuple[float, int]] = {}
        self._once_ready: set[str] = set()
        self._outcome: DeployOutcome | None = None
        self._was_seen = False

    def decide(self, instances: Collection[Instance], at: float) -> DeployOutcome | None:
        """Decide, if that is possible yet.

        Args:
            instances: All instances of the service.
            at: Now, in monotonic seconds.

        Returns:
            The outcome; `None` to ask again, when there is news and now and then.
        """
        ours = [one for one in _current(instances) if one.version == self.version]
        self._was_seen = self._was_seen or bool(ours)
        self._once_ready.update(one.incarnation for one in ours if _shows_it_was_ready(one))
        since: dict[str, tuple[float, int]] = {}
        for one in ours:
            if one.is_ready:
                sequence = one.state.entry.sequence
                before = self._ready_since.get(one.incarnation)
                # Another sequence: it was not ready for a moment between two looks.
                same = before is not None and before[1] == sequence
                since[one.incarnation] = before if before and same else (at, sequence)
        self._ready_since = since
        steady = sum(at - began >= self._for_seconds for began, _ in since.values())
        waiting = [one for one in ours if not one.is_ready]
        self.standing = DeployStanding(
            ready=len(since),
            steady=steady,
            waits_for=tuple(f"{one.name}: {why_not_ready(one)}" for one in waiting),
            old=_old_ones(instances, self.version),
            was_seen=self._was_seen,
        )
        return self._decide(waiting, steady)

    def forget(self) -> None:
        """Redis was away: whatever was ready may not have been so meanwhile."""
        self._ready_since.clear()

    def _decide(self, waiting: Collection[Instance], steady: int) -> DeployOutcome | None:
        if steady >= self.wanted:
            return DeployOutcome.PASSED
        there = [one for one in waiting if one.presence in _THERE]
        permanent = [one for one in there if is_permanent_failure(one)]
        # An instance that was ready has an outage, even if it comes back for a while and falls
        # again.
        late = [
            one
            for one in there
            if has_spent_budget(one) and one.incarnation not in self._once_ready
        ]
        lost = {one.incarnation for one in (*permanent, *late)}
        if len(lost) <= self._allow_degraded:
            return None
        return DeployOutcome.PERMANENT_FAILURE if permanent else DeployOutcome.FAILED


def is_permanent_failure(instance: Instance) -> bool:
    """Whether its last attempt failed in a way that waiting won't help."""
    failure = instance.state.failure
    failing = bool(instance.state.failures_in_row) and failure is not None
    return failing and failure is not None and failure.kind is FailureKind.PERMANENT


def has_spent_budget(instance: Instance) -> bool:
    """Whether it became degraded without being ready just before."""
    entry = instance.state.entry
    return entry.current is Stage.DEGRADED and entry.previous is not Stage.READY


def _shows_it_was_ready(instance: Instance) -> bool:
    """Whether its last change is from ready, or to it."""
    entry = instance.state.entry
    return Stage.READY in (entry.current, entry.previous)


def why_not_ready(instance: Instance) -> str:
    """Why an instance is not ready, in words."""
    state = instance.state
    match instance.presence:
        case PresenceVerdict.ALIVE:
            words = "draining" if state.draining else f"{instance.stage}"
        case PresenceVerdict.UNKNOWN:
            return f"not known; it was {instance.stage}"
        case other:
            words = f"{other}; it was {instance.stage}"
    failure = state.failure if state.failures_in_row else None
    why = untold_words(state) or (failure.reason if failure else "; ".join(state.waits_for))
    return f"{words}: {why}" if why else words


def _current(instances: Collection[Instance]) -> list[Instance]:
    """Without those that left, and those that are gone while another one has their name."""
    alive = {one.name for one in instances if one.presence in _THERE}
    gone = PresenceVerdict.SILENT
    return [
        one
        for one in instances
        if one.presence is not PresenceVerdict.LEFT
        and not (one.presence is gone and one.name in alive)
    ]


def _old_ones(instances: Collection[Instance], version: str) -> tuple[str, ...]:
    names: dict[str, list[str]] = {}
    for one in instances:
        if one.version != version and one.presence in _THERE:
            names.setdefault(one.version, []).append(one.name)
    return tuple(
        f"{other or 'no version'}: {_listed(sorted(found))}"
        for other, found in sorted(names.items())
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
