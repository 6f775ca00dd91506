"""How a fleet is read: the order in which a reader asks Redis, and what it makes of the answers.

1. On every new connection: the place first, then the truth. The stream's last id says whether the
   reader's own place is still in this stream; then all states are read, in pages and without a
   transaction. They may be newer than the place, and what comes again is known by its sequence.
2. Then, over and over: wait for changes from the place on; each second ask which leases have ended;
   and now and then read all states again, so that whatever Redis lost, the view is soon right.

Pure but for its `FleetSource`: a connection to Redis, and in tests a simulation. `_changes` decides
which changes are delivered, `_presence` who is there.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from orchestrator.fleet._changes import (
    MOST_INSTANCES,
    ChangeBook,
    Gap,
    ReadChange,
    ReadStep,
)
from orchestrator.fleet._fleet_source import DemotedError, FleetSource
from orchestrator.fleet._news import (
    Change,
    Contact,
    FleetNews,
    Instance,
    Missed,
    Presence,
    SilentTogether,
)
from orchestrator.fleet._presence import LifeSigns, PresenceBook, PresenceVerdict
from orchestrator.fleet._stream_place import FIRST_PLACE, place_key

_NAME_SECONDS = 60.0
"""For so long after a master has become a replica its name is asked for the new one."""

BLOCK_SECONDS = 1.0
"""How long Redis keeps a reader waiting for a change. So leases are asked about as often."""

_LEASES_SECONDS = 1.0
_LONGEST_TRUTH_SECONDS = 30.0
_SHORTEST_TRUTH_SECONDS = 2.0
_TRUTH_SECONDS_EACH = 0.03
"""All states are read again every 30 s, and more often in a small fleet, where it costs nothing."""


class Delivery(NamedTuple):
    """What one turn brought.

    Attributes:
        news: The news, in order.
        instances: All instances now, by incarnation; `None` if nothing changed in them.
        place: How far the stream was read.
        at: When all of this was so, in monotonic seconds.
        seen: With the first states of a reader that begins: for each incarnation, the last sequence
            that it need not give out. Else `None`.
    """

    news: list[FleetNews]
    instances: Mapping[str, Instance] | None
    place: str
    at: float
    seen: Mapping[str, int] | None = None


class FleetReader:
    """Reads one fleet, turn by turn.

    Args:
        book: What was given out before.
        now: Monotonic seconds.
        unix_now: Unix seconds.

    Attributes:
        book: What was given out.
        instances: All instances now, by incarnation.
    """

    def __init__(
        self, book: ChangeBook, now: Callable[[], float], unix_now: Callable[[], float]
    ) -> None:
        self.book = book
        self._now = now
        self._unix_now = unix_now
        self._presences = PresenceBook()
        self.instances: dict[str, Instance] = {}
        self._leases_due = 0.0
        self._truth_due = 0.0
        self._truth_at = -_SHORTEST_TRUTH_SECONDS
        self._reached: bool | None = None
        self._begins = True
        self._was_master = False
        self._demoted_at: float | None = None
        # What the book knows was given out must be delivered, also where the connection breaks
        # before the turn ends.
        self._steps: list[ReadStep] = []

    def connect(self, source: FleetSource) -> Delivery:
        """Begin on a new connection.

        Raises:
            DemotedError: When it leads to the master of before, which is a replica now.
        """
        self._check_role(source)
        book = self.book
        book.begin_connection()
        last_id = source.last_id() or FIRST_PLACE
        if book.begins:
            book.place = last_id
        elif place_key(last_id) < place_key(book.place):
            book.go_back()
        self._read_truth(source)
        self._read_leases(source, whole=True)
        self._presences.reach(self._now())
        begins, self._begins = self._begins, False
        before, self._reached = self._reached, True
        delivery = self._delivery()
        news: list[FleetNews] = [Contact(reached=True)] if before is False else []
        if begins:  # whoever begins looks at the instances themselves
            return delivery._replace(news=news, seen=dict(book.seen))
        return delivery._replace(news=news + delivery.news)

    def lose(self, reason: str) -> Delivery:
        """The connection is gone, for this reason."""
        first, self._reached = self._reached is not False, False
        self._presences.lose()
        delivery = self._delivery()
        contact: list[FleetNews] = [Contact(reached=False, reason=reason)] if first else []
        return delivery._replace(news=delivery.news + contact)

    def turn(self, source: FleetSource, block_seconds: float = BLOCK_SECONDS) -> Delivery:
        """Wait for changes, and do what is due.

        Raises:
            DemotedError: When what was a master is a replica now.
        """
        book = self.book
        self._steps += book.settle(self._now(), at_end=False)
        waits = not (self._steps or book.went_back)
        entries = source.entries_after(book.place, block_seconds if waits else 0.0)
        for one in entries:
            self._steps += book.read(one.id, one.entry, again=one.again)
            if book.went_back:
                break
        self._steps += book.settle(self._now(), at_end=not entries)
        looked_up = {step.entry.incarnation for step in self._steps if isinstance(step, ReadChange)}
        if self._now() >= self._leases_due:
            looked_up |= self._read_leases(source)
        if looked_up:
            book.refresh(source.some_states(looked_up))
        if self._truth_is_due():
            self._check_role(source)
            if place_key(source.last_id() or FIRST_PLACE) < place_key(book.place):
                book.go_back()
            self._read_truth(source)
        return self._delivery()

    # -- asking -----------------------------------------------------------------------------------

    def _check_role(self, source: FleetSource) -> None:
        """Leave a master that became a replica, unless its name goes on leading there.

        Whoever was given a replica from the start stays there.
        """
        follows = source.is_replica()
        if not follows:
            self._was_master = self._was_master or follows is False
            self._demoted_at = None
        elif self._was_master:
            since = self._demoted_at = self._demoted_at or self._now()
            if self._now() - since < _NAME_SECONDS:
                raise DemotedError
            self._was_master = False

    def _truth_is_due(self) -> bool:
        now = self._now()
        doubtful = self.book.doubtful or self.book.has_absent
        early = doubtful and now - self._truth_at >= _SHORTEST_TRUTH_SECONDS
        return early or self.book.went_back or now >= self._truth_due

    def _read_truth(self, source: FleetSource) -> None:
        book = self.book
        states = source.all_states(MOST_INSTANCES)
        self._truth_at = self._now()
        book.take_states(states, source.last_id(), self._truth_at)
        pause = min(len(book.states) * _TRUTH_SECONDS_EACH, _LONGEST_TRUTH_SECONDS)
        self._truth_due = self._truth_at + max(pause, _SHORTEST_TRUTH_SECONDS)

    def _read_leases(self, source: FleetSource, *, whole: bool = False) -> set[str]:
        """Ask which leases have ended; return whose state should be looked up for it."""
        self._leases_due = self._now() + _LEASES_SECONDS
        before = self._presences.ended
        ended, count = source.ended_leases(MOST_INSTANCES)
        whole = whole or count != self._presences.lease_count
        held = source.all_leases(MOST_INSTANCES) if whole else None
        self._presences.take_leases(ended, held)
        states = self.book.states
        again = before.keys() - ended.keys()  # such as one that is not stuck any more
        return again | {
            one
            for one, seconds in ended.items()
            if one not in before or one not in states or seconds <= states[one].lease_seconds
        }

    # -- telling ----------------------------------------------------------------------------------

    def _delivery(self) -> Delivery:
        book, presences = self.book, self._presences
        signs = {
            incarnation: LifeSigns(state.left, state.stuck_since is not None, state.lease_seconds)
            for incarnation, state in book.states.items()
        }
        now = self._now()
        judged = presences.judge(signs, now)
        changed = self._update_instances()
        at = self.instances
        news: list[FleetNews] = []
        steps, self._steps = self._steps, []
        for step in steps:
            if isinstance(step, Gap):
                if step.incarnation in at:
                    news.append(Missed(at[step.incarnation], step.missed))
            elif (incarnation := step.entry.incarnation) in at:
                news.append(Change(at[incarnation], *step))
        news += (Presence(at[one], verdict) for one, verdict in judged.changed.items())
        if judged.silent_together:
            together = tuple(at[one] for one in judged.silent_together)
            news.append(SilentTogether(together, judged.of))
        return Delivery(news, dict(at) if changed else None, book.place, now)

    def _update_instances(self) -> bool:
        """Turn what is known into instances; return whether anything has changed."""
        book, verdicts, instances = self.book, self._presences.verdicts, self.instances
        gone = [one for one in instances if one not in book.states]
        for one in gone:
            del instances[one]
        changed = bool(gone)
        for incarnation, state in book.states.items():
            verdict = verdicts.get(incarnation, PresenceVerdict.UNKNOWN)
            known = instances.get(incarnation)
            if known is not None and known.state is state and known.presence is verdict:
                continue
            since = known.presence_since if known and known.presence is verdict else None
            instances[incarnation] = Instance(
                state, verdict, self._unix_now() if since is None else since
            )
            changed = True
        return changed
