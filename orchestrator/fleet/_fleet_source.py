"""What a reader asks of Redis; `_redis_source.py` and `_group_source.py` do so on a connection."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from orchestrator.fleet._wire import FleetEntry, FleetState, Unreadable


class StreamEntry(NamedTuple):
    """An entry of the stream, as it was read.

    Attributes:
        id: Its place.
        entry: What it tells.
        again: Whether it may have been delivered before.
    """

    id: str
    entry: FleetEntry | Unreadable
    again: bool = False


class DemotedError(Exception):
    """What was a master is a read-only replica now: a new connection may lead to the new master."""


class FleetSource(Protocol):
    """Redis, as a reader asks it. Each call may raise what a connection raises."""

    def is_replica(self) -> bool | None:
        """Whether it follows another one; `None` if it does not say."""
        ...

    def last_id(self) -> str | None:
        """The last id that the stream has given; `None` without a stream."""
        ...

    def all_states(self, most: int) -> Mapping[str, FleetState | Unreadable]:
        """All states; after more than `most` it may stop."""
        ...

    def some_states(self, incarnations: Collection[str]) -> Mapping[str, FleetState | Unreadable]:
        """The states of these, as far as there are any."""
        ...

    def entries_after(self, place: str, block_seconds: float) -> Sequence[StreamEntry]:
        """Entries after the place; none if none came within the time, or 0 for no time at all."""
        ...

    def ended_leases(self, most: int) -> tuple[Mapping[str, float], int]:
        """For each lease that has ended, how many seconds ago; and how many leases there are."""
        ...

    def all_leases(self, most: int) -> Collection[str]:
        """The incarnations that have a lease, ended ones among them."""
        ...
