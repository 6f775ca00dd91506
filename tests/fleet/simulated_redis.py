"""A Redis that holds a fleet in memory and loses whatever a test wants, for laws over many orders.

Its publishers follow the rule of the scripts: what follows on the mark is appended, and otherwise
they go on from the mark, with as much as they have kept.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

from orchestrator.fleet._fleet_source import StreamEntry
from orchestrator.fleet._stream_place import place_key
from orchestrator.fleet._wire import FleetState, Unreadable
from tests.fleet.scripted_instance import entry_of

KEPT = 4
"""So few changes are kept that some are lost for good, unless a test wants it otherwise."""

LEASE_SECONDS = 6.0


class SimulatedRedis:
    """One Redis with a fleet on it, and the source of a reader.

    Args:
        names: The incarnations.
        meanwhile: Called before each question of the reader: what happens just then.

    Attributes:
        kept: How many changes an instance can tell again.
        follows: Whether it says that it is a replica.
    """

    def __init__(self, names: Sequence[str], meanwhile: Callable[[], None]) -> None:
        self.names = names
        self.at = 0.0
        self.stream: list[StreamEntry] = []
        self.last: tuple[int, int] | None = None
        self.clock = 1000
        self.states: dict[str, FleetState] = {}
        self.leases: dict[str, float] = {}
        self.sequences = dict.fromkeys(names, 0)
        self.kept = KEPT
        self.follows: bool | None = False
        self._meanwhile = meanwhile
        self._other: tuple[list[StreamEntry], tuple[int, int] | None, dict[str, FleetState]]
        self.part()

    # -- what happens -----------------------------------------------------------------------------

    def change(self, name: str, times: int = 1) -> None:
        """An instance changes, and tells what Redis does not know."""
        self.sequences[name] += times
        self.beat(name)

    def part(self) -> None:
        """From now on there is another master that has the same."""
        self._other = [*self.stream], self.last, dict(self.states)

    def fail_over(self) -> None:
        """The other one is the one that is asked; what was here is there no more."""
        other, self._other = self._other, (self.stream, self.last, self.states)
        self.stream, self.last, self.states = other

    def change_elsewhere(self, name: str, times: int) -> None:
        """An instance changes, and tells the other master."""
        self.fail_over()
        self.change(name, times)
        self.fail_over()

    def beat(self, name: str) -> None:
        self.leases[name] = self.at + LEASE_SECONDS
        known = self.states.get(name)
        mark = known.entry.sequence if known else 0
        for sequence in range(
            max(mark, self.sequences[name] - self.kept) + 1, self.sequences[name] + 1
        ):
            entry = entry_of(name, sequence)
            self.clock += 1
            before = self.last or (0, 0)
            self.last = max((self.clock, 0), (before[0], before[1] + 1))
            self.stream.append(StreamEntry(f"{self.last[0]}-{self.last[1]}", entry))
            self.states[name] = FleetState(entry, "chat", 0.0, LEASE_SECONDS, 2.0)

    def lose_stream(self) -> None:
        self.stream, self.last = [], None

    def trim(self, kept: int = 0) -> None:
        self.stream = self.stream[len(self.stream) - kept :] if kept else []

    def lose_states(self) -> None:
        self.states = {}

    def flush(self) -> None:
        self.lose_stream()
        self.states, self.leases = {}, {}

    def fall_behind(self, entries: int) -> None:
        """A replica takes over that lacks the last entries, and knows the states before them."""
        lost = self.stream[len(self.stream) - entries :] if entries else []
        del self.stream[len(self.stream) - len(lost) :]
        for one in reversed(lost):
            entry = one.entry
            assert not isinstance(entry, Unreadable)
            if entry.sequence == 1:
                self.states.pop(entry.incarnation, None)
            elif entry.incarnation in self.states:
                before = entry_of(entry.incarnation, entry.sequence - 1)
                self.states[entry.incarnation] = FleetState(before, "chat", 0.0, LEASE_SECONDS, 2.0)
        if lost:
            self.last = place_key(self.stream[-1].id) if self.stream else None

    def turn_clock_back(self) -> None:
        """A new primary whose clock is behind makes the next stream."""
        self.clock = 1

    # -- what a reader asks -----------------------------------------------------------------------

    def is_replica(self) -> bool | None:
        return self.follows

    def last_id(self) -> str | None:
        self._meanwhile()
        return None if self.last is None else f"{self.last[0]}-{self.last[1]}"

    def all_states(self, most: int) -> Mapping[str, FleetState | Unreadable]:
        self._meanwhile()
        half = [*self.states][: len(self.states) // 2]
        found: dict[str, FleetState | Unreadable] = {one: self.states[one] for one in half}
        self._meanwhile()  # between two pages
        return found | {one: state for one, state in self.states.items() if one not in found}

    def some_states(self, incarnations: Collection[str]) -> Mapping[str, FleetState | Unreadable]:
        self._meanwhile()
        return {one: self.states[one] for one in incarnations if one in self.states}

    def entries_after(self, place: str, block_seconds: float) -> Sequence[StreamEntry]:
        self._meanwhile()
        after = place_key(place)
        return [one for one in self.stream if place_key(one.id) > after][:3]

    def ended_leases(self, most: int) -> tuple[Mapping[str, float], int]:
        self._meanwhile()
        ended = {one: self.at - until for one, until in self.leases.items() if until < self.at}
        return ended, len(self.leases)

    def all_leases(self, most: int) -> Collection[str]:
        self._meanwhile()
        return set(self.leases)
