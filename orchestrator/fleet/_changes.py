"""Which changes a reader has delivered: without gaps for each incarnation, or counted as missed.

Pure. A reader knows a place in the stream, and for each incarnation the last sequence that it gave
out. So it recognises repeats and gaps. But what the stream has lost altogether leaves no visible
gap until the next change. The states reveal it: the sequence of each is that of the last change.
However, a state may be newer than the place, with its changes still to come. So the states are read
first, and then the stream's last id. Once the reader has come to the entry with that id, a state
that is still ahead of what was given out means that changes are lost. If there is no such entry,
the stream was lost or trimmed. Then publishers get some time to notice: what Redis has lost
altogether they publish again.

A place means nothing in the stream of another master, which a fail-over may bring: if two took
themselves for the master for a while, both have entries of that time. So changes that seem lost are
looked for in the whole stream once, before they count as missed.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, TypeAlias

from orchestrator.fleet._absences import Absences
from orchestrator.fleet._presence import LEASE_SECONDS
from orchestrator.fleet._stream_place import FIRST_PLACE, place_key
from orchestrator.fleet._wire import FleetEntry, FleetState, Unreadable

MOST_INSTANCES = 20_000
"""How many incarnations are followed at most."""

_MOST_SEEN = 2 * MOST_INSTANCES
"""How many incarnations are recognised when they come back."""

_BEAT_SECONDS = 2.0

_LONGEST_TURN_SECONDS = 1.5

_SEARCH_SECONDS = 30.0
"""The least time between two searches of the whole stream on one connection. Anyone may forge a
gap."""

_HEAL_SECONDS = 15.0
"""How long publishers take at most to notice what Redis lost and to publish it again, even if they
have to reconnect, with back-off, on a busy machine."""


class ReadChange(NamedTuple):
    """A change that the reader gives out.

    Attributes:
        entry: The change.
        place: Where it is in the stream; empty if it was read from a state.
        again: Whether it may have been delivered before.
    """

    entry: FleetEntry
    place: str = ""
    again: bool = False


class Gap(NamedTuple):
    """Changes of an incarnation that can't be read any more.

    Attributes:
        incarnation: Whose.
        missed: How many.
    """

    incarnation: str
    missed: int


ReadStep: TypeAlias = ReadChange | Gap


class _Truth(NamedTuple):
    """States that are ahead of what was given out."""

    states: Mapping[str, FleetState]
    last_id: str | None
    waited_seconds: float = 0.0
    arrived: bool = False


class ChangeBook:
    """What one reader has given out.

    Args:
        service: The service.
        place: Where to go on in the stream; before everything if not given.
        seen: For each incarnation, the last sequence that was given out; `None` for a reader that
            begins, to which the first states are all it needs to know of the past.
        shared: Whether others read a part of the changes, so that gaps mean nothing.

    Attributes:
        place: The id of the last entry that was read.
        seen: For each incarnation, the last sequence that was given out.
        states: The latest state of each incarnation.
        unreadable: How many entries and states were not of this version, or forged.
        repeated: How many changes came again, and were skipped.
        missed: How many changes could not be read any more.
        begins: Whether no states were taken over yet, and it goes on nowhere.
        crowded: Whether there are more incarnations than can be followed.
        doubtful: Whether the states should be read again soon.
        went_back: Whether the stream is read from its beginning, and the states not yet again.
    """

    def __init__(
        self,
        service: str,
        place: str | None = None,
        seen: Mapping[str, int] | None = None,
        *,
        shared: bool = False,
    ) -> None:
        self.place: str = place or FIRST_PLACE
        self.seen: OrderedDict[str, int] = OrderedDict(seen or {})
        self.states: dict[str, FleetState] = {}
        self.unreadable: int = 0
        self.repeated: int = 0
        self.missed: int = 0
        self.crowded: bool = False
        self.doubtful: bool = False
        self.went_back: bool = False
        self._service = service
        self.begins: bool = seen is None
        self._shared = shared
        self._truth: _Truth | None = None
        self._looked_at = 0.0
        self._absences = Absences()
        self._old_until = FIRST_PLACE
        self._may_search = True
        self._searched_at = -math.inf

    @property
    def has_absent(self) -> bool:
        """Whether some instances are not among the states that were read last."""
        return bool(self._absences)

    def read(
        self, entry_id: str, entry: FleetEntry | Unreadable, *, again: bool = False
    ) -> list[ReadStep]:
        """Take over an entry of the stream; return what it tells."""
        self.place = entry_id
        if self._truth is not None and entry_id == self._truth.last_id:
            self._truth = self._truth._replace(arrived=True)
        if isinstance(entry, Unreadable):
            self.unreadable += 1
            self.doubtful = True
            return []
        if self._is_of_before(entry_id, entry.incarnation):
            return []
        if entry.sequence > self.seen.get(entry.incarnation, 0) + 1 and self._search():
            return []
        return self._give_out(ReadChange(entry, entry_id, again))

    def begin_connection(self) -> None:
        """Redis was away, and publishers have not noticed yet what it lost."""
        self._may_search = True
        if self._truth is not None:
            self._truth = self._truth._replace(waited_seconds=0.0, last_id=None, arrived=False)

    def go_back(self) -> None:
        """The stream is another one, or counts anew: read it from its beginning."""
        self._old_until = max(self._old_until, self.place, key=place_key)
        self.place = FIRST_PLACE
        self.went_back = True
        if self._truth is not None:
            self._truth = self._truth._replace(arrived=False)

    def take_states(
        self, states: Mapping[str, FleetState | Unreadable], last_id: str | None, at: float
    ) -> None:
        """Take over all states, which were read before the stream's last id was `last_id`.

        Args:
            states: The states by incarnation.
            last_id: The place up to which their changes are in the stream, if they are in it;
                `None` without a stream.
            at: Now, in monotonic seconds.
        """
        readable = {one: it for one, it in states.items() if isinstance(it, FleetState)}
        self.unreadable += len(states) - len(readable)
        self.doubtful = self.went_back = False
        if at - self._searched_at >= _SEARCH_SECONDS:
            self._may_search, self._searched_at = True, at
        self.crowded = len(readable) > MOST_INSTANCES
        if self.begins:
            self.seen.update({one: state.entry.sequence for one, state in readable.items()})
            self.begins = False
        self.refresh(readable)
        if not self._shared:
            if self._truth is None:
                self._looked_at = at
            self._compare(readable, last_id)
        if not self.crowded:  # else not all of them were read
            for incarnation in self._absences.swept(self.states, states, at):
                del self.states[incarnation]

    def refresh(self, states: Mapping[str, FleetState | Unreadable]) -> None:
        """Take over some states, which say nothing about what was given out."""
        for incarnation, state in states.items():
            if isinstance(state, FleetState):
                known = self.states.get(incarnation)
                if known is None and len(self.states) >= MOST_INSTANCES:
                    self.crowded = True
                elif known is None or known.entry.sequence <= state.entry.sequence:
                    self.states[incarnation] = state

    def settle(self, at: float, *, at_end: bool) -> list[ReadStep]:
        """Compare with the states that were taken over, if the reader has come far enough.

        Args:
            at: Now, in monotonic seconds.
            at_end: Whether the stream had nothing left just now.
        """
        # If this process did not run, it has not waited, and the publishers may not have run
        # either.
        waited, self._looked_at = min(at - self._looked_at, _LONGEST_TURN_SECONDS), at
        truth = self._truth
        if truth is None:
            return []
        self._truth = truth = truth._replace(waited_seconds=truth.waited_seconds + waited)
        healed = at_end and truth.waited_seconds >= _HEAL_SECONDS
        if not (healed or truth.arrived):
            return []
        ahead = self._ahead(truth.states)
        if ahead and self._search():
            return []
        self._truth = None
        return [
            step for state in ahead.values() for step in self._give_out(ReadChange(state.entry))
        ]

    def _search(self) -> bool:
        """Look for what is missing from the stream's beginning on, if that was not done lately."""
        if self._shared or not self._may_search:
            return False
        self._may_search = False
        self.go_back()
        return True

    def _is_of_before(self, entry_id: str, incarnation: str) -> bool:
        """Whether it tells of an instance that was gone before this reader began."""
        if self._shared or self._old_until == FIRST_PLACE:
            return False
        if place_key(entry_id) > place_key(self._old_until):
            return False
        return incarnation not in self.seen and incarnation not in self.states

    def _compare(self, states: Mapping[str, FleetState], last_id: str | None) -> None:
        """Keep the states that are ahead, until their changes have come, or should have."""
        before = self._ahead(self._truth.states) if self._truth is not None else {}
        ahead = self._ahead(states)
        waited = self._truth.waited_seconds if self._truth is not None and before else 0.0
        if any(
            one not in ahead or ahead[one].entry.sequence < before[one].entry.sequence
            for one in before
        ):
            # Redis has lost these states. Until they return, no id says where the changes are.
            last_id = None
            ahead = {**ahead, **before}
        arrived = last_id == self.place
        self._truth = _Truth(ahead, last_id, waited, arrived) if ahead else None

    def _ahead(self, states: Mapping[str, FleetState]) -> dict[str, FleetState]:
        """Those that tell of changes that were not given out."""
        return {
            incarnation: state
            for incarnation, state in states.items()
            if state.entry.sequence > self.seen.get(incarnation, 0)
        }

    def _give_out(self, change: ReadChange) -> list[ReadStep]:
        entry = change.entry
        incarnation, sequence = entry.incarnation, entry.sequence
        known = self.states.get(incarnation)
        if known is None and len(self.states) >= MOST_INSTANCES:
            self.crowded = True
            return []
        self._absences.came_back(incarnation)
        seen = self.seen.get(incarnation, 0)
        if sequence <= seen and not self._shared:
            self.repeated += 1
            return []
        if known is None:
            started_at = entry.at - entry.elapsed_seconds
            known = FleetState(entry, self._service, started_at, LEASE_SECONDS, _BEAT_SECONDS)
            self.states[incarnation] = known
        elif known.entry.sequence < sequence:
            self.states[incarnation] = replace(known, entry=entry, waits_for=())
        self.seen[incarnation] = max(sequence, seen)
        self.seen.move_to_end(incarnation)
        while len(self.seen) > _MOST_SEEN:
            self.seen.popitem(last=False)
        steps: list[ReadStep] = [change]
        if sequence > seen + 1 and not self._shared:
            self.missed += sequence - seen - 1
            steps.insert(0, Gap(incarnation, sequence - seen - 1))
        return steps
