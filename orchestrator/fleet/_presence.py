"""Who is there: verdicts on instances, from their leases and from what they say of themselves.

Pure: time comes in. Three rules keep a verdict honest:

1. A lease that holds is proof: Redis itself compared it with its own clock. A lease that has ended
   proves little just after Redis was away, since nobody could renew it then. So no instance is
   called silent until one lease has passed since this reader reached Redis.
2. An instance without any lease may have lost it together with Redis' data. It gets one lease of
   time to come back.
3. The news that instances went silent waits until no further one does so. If most of the fleet went
   silent together, the way to Redis is the likely cause, and it is one piece of news.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LEASE_SECONDS = 6.0
"""How long a lease lasts in a fleet of up to 1,000 instances."""

_LONGEST_LEASE_SECONDS = 3600.0
"""A longer lease than this is not believed."""

_FEWEST_TOGETHER = 3
"""With fewer instances than this, none are said to go silent together."""


class PresenceVerdict(StrEnum):
    """What a reader thinks of an instance."""

    ALIVE = "alive"
    """Its lease holds."""

    STUCK = "stuck"
    """It still renews its lease, but its event loop does not run."""

    LEFT = "left"
    """It said goodbye."""

    SILENT = "silent"
    """Its lease has ended. It may be dead, frozen, or cut off from Redis."""

    UNKNOWN = "unknown"
    """This reader can't say, since Redis is away, or has not been back for one lease."""


_THERE = frozenset({PresenceVerdict.ALIVE, PresenceVerdict.STUCK})


@dataclass(frozen=True, slots=True)
class LifeSigns:
    """What an instance says of itself.

    Attributes:
        left: Whether it said goodbye.
        stuck: Whether its event loop does not run.
        lease_seconds: How long its lease lasts.
    """

    left: bool = False
    stuck: bool = False
    lease_seconds: float = LEASE_SECONDS

    @property
    def patience_seconds(self) -> float:
        """How long to wait for its next beat before it counts as silent."""
        return min(self.lease_seconds, _LONGEST_LEASE_SECONDS)


@dataclass(frozen=True, slots=True)
class PresenceNews:
    """Whose verdict has changed.

    Attributes:
        changed: The new verdicts, by incarnation.
        silent_together: The incarnations that went silent together; they are not in `changed`.
        of: How many instances were there before, those among them.
    """

    changed: Mapping[str, PresenceVerdict] = field(default_factory=dict)
    silent_together: tuple[str, ...] = ()
    of: int = 0


class PresenceBook:
    """The verdicts of one reader.

    Attributes:
        verdicts: The verdict on each incarnation, as of the last `judge` or `lose`.
    """

    def __init__(self) -> None:
        self.verdicts: dict[str, PresenceVerdict] = {}
        self._reached_at: float | None = None
        self._held: frozenset[str] = frozenset()
        self._ended: Mapping[str, float] = {}
        self._missing_since: dict[str, float] = {}
        self._said: dict[str, PresenceVerdict] = {}
        self._newly_silent: dict[str, float] = {}

    @property
    def lease_count(self) -> int:
        """How many leases Redis holds, ended ones among them, as far as is known."""
        return len(self._held)

    @property
    def ended(self) -> Mapping[str, float]:
        """How many seconds ago each lease ended that has ended, by Redis' clock."""
        return self._ended

    def reach(self, at: float) -> None:
        """Redis answers this reader, at first or again."""
        if self._reached_at is None:
            self._reached_at = at
            self._missing_since.clear()

    def lose(self) -> None:
        """Redis no longer answers: nothing is known of any instance that has not left."""
        self._reached_at = None
        self._newly_silent.clear()
        for incarnation, verdict in self.verdicts.items():
            if verdict is not PresenceVerdict.LEFT:
                self.verdicts[incarnation] = PresenceVerdict.UNKNOWN

    def take_leases(self, ended: Mapping[str, float], held: Collection[str] | None = None) -> None:
        """Take over what Redis says.

        Args:
            ended: For each lease that has ended, how many seconds ago, by Redis' clock.
            held: All incarnations that have a lease, ended or not; `None` if nothing has changed.
        """
        self._ended = dict(ended)
        if held is not None:
            self._held = frozenset(held)

    def judge(self, signs: Mapping[str, LifeSigns], at: float) -> PresenceNews:
        """Give a verdict on each incarnation, and return the news.

        Args:
            signs: What each says of itself. Those that are missing here are forgotten.
            at: Now, in monotonic seconds.
        """
        self.verdicts = {one: self._verdict(one, its, at) for one, its in signs.items()}
        for book in (self._missing_since, self._said, self._newly_silent):
            for gone in [one for one in book if one not in signs]:
                del book[gone]
        return self._news(signs, at)

    def _verdict(self, incarnation: str, signs: LifeSigns, at: float) -> PresenceVerdict:
        if signs.left:
            return PresenceVerdict.LEFT
        if self._reached_at is None:
            return PresenceVerdict.UNKNOWN
        if incarnation in self._held:
            self._missing_since.pop(incarnation, None)
            return self._verdict_by_lease(incarnation, signs, at)
        if self.verdicts.get(incarnation) is PresenceVerdict.SILENT:
            return PresenceVerdict.SILENT  # and now swept away
        since = self._missing_since.setdefault(incarnation, at)
        return _silent_after(at - max(since, self._reached_at), signs)

    def _verdict_by_lease(self, incarnation: str, signs: LifeSigns, at: float) -> PresenceVerdict:
        if (ended_ago := self._ended.get(incarnation)) is None:
            return PresenceVerdict.ALIVE
        if signs.stuck and ended_ago < signs.patience_seconds:
            return PresenceVerdict.STUCK  # its beats end the lease at once
        return _silent_after(at - (self._reached_at or 0.0), signs)

    # -- news -------------------------------------------------------------------------------------

    def _news(self, signs: Mapping[str, LifeSigns], at: float) -> PresenceNews:
        changed: dict[str, PresenceVerdict] = {}
        before = len(self._newly_silent)
        for one, verdict in self.verdicts.items():
            said = self._said.get(one)
            if verdict is PresenceVerdict.SILENT and said in _THERE:
                self._newly_silent.setdefault(one, at)
                continue
            self._newly_silent.pop(one, None)
            if verdict not in (said, PresenceVerdict.UNKNOWN):
                changed[one] = verdict
        there = sum(verdict in _THERE for verdict in self._said.values())
        self._said.update(changed)
        grows = len(self._newly_silent) > before
        if not self._newly_silent or (grows and not self._is_overdue(signs, at)):
            return PresenceNews(changed)
        silent, self._newly_silent = tuple(self._newly_silent), {}
        self._said.update(dict.fromkeys(silent, PresenceVerdict.SILENT))
        if len(silent) >= _FEWEST_TOGETHER and len(silent) * 2 > there:
            return PresenceNews(changed, silent, there)
        return PresenceNews(changed | dict.fromkeys(silent, PresenceVerdict.SILENT))

    def _is_overdue(self, signs: Mapping[str, LifeSigns], at: float) -> bool:
        """Whether the first of those that went silent has waited for one lease."""
        first, since = next(iter(self._newly_silent.items()))
        return at - since >= signs[first].patience_seconds


def _silent_after(seconds: float, signs: LifeSigns) -> PresenceVerdict:
    """The verdict on an instance that could have renewed its lease for so long, and did not."""
    late = seconds >= signs.patience_seconds
    return PresenceVerdict.SILENT if late else PresenceVerdict.UNKNOWN
