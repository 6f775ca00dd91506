"""What an instance tells Redis of itself: beats and changes. Not when; the `Publisher` says that.

- A beat renews the lease, brings the state along if it is news, and learns which changes Redis
  knows and how many instances are alive.
- Changes are appended in batches, each with the state that goes with its last one.
"""

import time
from dataclasses import replace

from orchestrator.fleet._backlog import FleetBacklog
from orchestrator.fleet._encode import encode_entry, encode_state
from orchestrator.fleet._housekeeping import Housekeeping
from orchestrator.fleet._link import FleetLink, FleetScript
from orchestrator.fleet._living_count import LivingCount
from orchestrator.fleet._own_state import OwnState
from orchestrator.fleet._redis_clock import RedisClock
from orchestrator.fleet._scripts import APPEND, BEAT
from orchestrator.fleet._wire import ENTRY_FIELDS, MOST_ENTRIES, FleetEntry, FleetKeys

_BEAT_SECONDS = 2.0
_MOST_BEATS_PER_SECOND = 500.0
"""With more than 1,000 instances each beats more rarely, so that Redis gets no more than this."""

_LEASE_BEATS = 3
_KEPT_SECONDS = 600.0
"""So long after its lease has ended an instance can still be seen; then it is swept."""

_MOST_ROUNDS = 16
"""So many batches at most are appended before the next beat."""

_APPEND, _BEAT = FleetScript(APPEND), FleetScript(BEAT)


class OwnMessages:
    """The messages of one start-up. Every call may raise what a connection raises.

    Args:
        link: The way to Redis.
        own: What the instance says of itself.
        keys: Where to write it.
        incarnation: The name of this start-up.
        housekeeping: Hears that Redis has lost data.

    Attributes:
        backlog: The last changes of stage.
        living: How many instances are alive.
        stuck_since: Since when the event loop has been stuck, in Unix seconds; `None` while it
            runs.
        held_back: Why Redis takes no changes; empty while it does.
    """

    def __init__(
        self,
        link: FleetLink,
        own: OwnState,
        keys: FleetKeys,
        incarnation: str,
        housekeeping: Housekeeping,
    ) -> None:
        self._link = link
        self._own = own
        self._keys = keys
        self._incarnation = incarnation
        self._housekeeping = housekeeping
        self._began_at = time.monotonic()
        self._clock = RedisClock()
        self._sent_state = ""
        self.backlog: FleetBacklog = FleetBacklog()
        self.living: LivingCount = LivingCount()
        self.stuck_since: float | None = None
        self.held_back: str = ""

    def unix_now(self) -> float:
        """The time, by the clock that dates what the instance says of itself."""
        return self._own.told_at + time.monotonic() - self._began_at

    @property
    def lease_seconds(self) -> float:
        """How long a lease lasts."""
        return self._beat_seconds * _LEASE_BEATS

    @property
    def _beat_seconds(self) -> float:
        return max(_BEAT_SECONDS, (self.living.size or 0) / _MOST_BEATS_PER_SECOND)

    def connection_closed(self) -> None:
        """What was sent on it may be lost: send the state again."""
        self._sent_state = ""

    def beat(self, *, left: bool = False) -> float:
        """Beat once; return in how many seconds the next one is due.

        Args:
            left: Whether this is the goodbye.
        """
        every = self._beat_seconds
        ends_now = left or self.stuck_since is not None
        lease = 0 if ends_now else every * _LEASE_BEATS
        arguments: list[object] = [self._incarnation, lease, _KEPT_SECONDS]
        backlog = self.backlog
        state = self._state(backlog.last_known if backlog.behind else backlog.last, left=left)
        if state not in ("", self._sent_state) and (self.held_back or not backlog.behind):
            arguments += [backlog.mark, state]
        asked_at = self.unix_now()
        reply = self._link.run(_BEAT, (self._keys.instances, self._keys.leases), arguments)
        match reply:
            case [int(mark), int(alive), int(held), bytes(redis_now)]:
                self._clock.compare(redis_now, asked_at, self.unix_now())
                if len(arguments) > 3 and mark == backlog.mark:  # noqa: PLR2004  with a state
                    self._sent_state = state
                now = time.monotonic()
                if mark < backlog.mark or not held:
                    self._housekeeping.lost()
                    self.living.wait(now, every * _LEASE_BEATS)
                self.living.take(alive, now)
                backlog.knows(mark)
            case _:
                raise self._link.wrong_answer()
        return every

    def append(self) -> None:
        """Append the changes that Redis lacks."""
        for _ in range(_MOST_ROUNDS):
            batch = self.backlog.batch()
            if batch is None:
                return
            state = self._state(self.backlog.last)
            entries = map(self._clock.dated, batch.entries)
            words = [word for entry in entries for word in encode_entry(entry)]
            last = batch.entries[-1].sequence
            arguments: list[object] = [self._incarnation, batch.mark, last, state]
            arguments += [MOST_ENTRIES, 2 * len(ENTRY_FIELDS), *words]
            mark = self._link.run(_APPEND, (self._keys.instances, self._keys.events), arguments)
            if not isinstance(mark, int):
                raise self._link.wrong_answer()
            self.backlog.answered(batch, mark)
            if mark == last:
                self._sent_state = state

    def _state(self, last: FleetEntry | None, *, left: bool = False) -> str:
        """The state, with this as the last change that Redis knows; empty if there is none."""
        newest = self.backlog.last
        if last is None or newest is None:
            return ""
        state = self._own.state(last, newest.sequence, self._beat_seconds, self.lease_seconds)
        stuck, held_back = self.stuck_since, "" if last is newest else self.held_back
        state = replace(state, stuck_since=stuck, left=left, held_back=held_back)
        return encode_state(self._clock.dated_state(state))
