"""The last changes of an instance, and which of them Redis still has to be given. Pure.

Redis keeps a mark: the sequence of the last change that it knows. Each batch names the mark that it
follows; if Redis has another mark, it takes nothing, and answers with its own. So whatever was
lost, the publisher continues from where Redis stands, in order.
"""

from collections import deque
from typing import NamedTuple

from orchestrator.fleet._wire import FleetEntry

MOST_KEPT = 256
"""How many changes are kept, sent or not, so that they can be sent again."""

_MOST_AT_ONCE = 64


class EntryBatch(NamedTuple):
    """Changes in order, and the mark that they follow. There may be a gap between the two."""

    mark: int
    entries: tuple[FleetEntry, ...]


class FleetBacklog:
    """The changes of one incarnation.

    Attributes:
        sent: How many changes were appended.
        sent_again: How many of these Redis had known before, and lost.
        dropped: How many were never sent, as there was no room to keep them.
    """

    def __init__(self) -> None:
        self._kept: deque[FleetEntry] = deque(maxlen=MOST_KEPT)
        self._mark = 0
        self._sent_up_to = 0
        self.sent = 0
        self.sent_again = 0
        self.dropped = 0

    @property
    def last(self) -> FleetEntry | None:
        """The last change; `None` before the first."""
        return self._kept[-1] if self._kept else None

    @property
    def last_known(self) -> FleetEntry | None:
        """The last change that Redis knows; `None` if it is not kept, or there is none."""
        return next((entry for entry in self._kept if entry.sequence == self._mark), None)

    @property
    def mark(self) -> int:
        """What Redis knows, as far as is known."""
        return self._mark

    @property
    def behind(self) -> int:
        """How many changes Redis lacks, of those that are kept."""
        # A copy, as the publisher's thread adds to it while another one asks.
        follows = self._follows
        return sum(entry.sequence > follows for entry in self._kept.copy())

    @property
    def _follows(self) -> int:
        """The sequence to continue after. A mark beyond the last change was forged."""
        return self._mark if self._kept and self._mark <= self._kept[-1].sequence else 0

    def add(self, entry: FleetEntry) -> None:
        """Keep a change; the oldest goes if there is no room."""
        self._kept.append(entry)

    def batch(self) -> EntryBatch | None:
        """What to append next; `None` if Redis has all."""
        follows = self._follows
        entries = [entry for entry in self._kept if entry.sequence > follows]
        return EntryBatch(self._mark, tuple(entries[:_MOST_AT_ONCE])) if entries else None

    def answered(self, batch: EntryBatch, mark: int) -> None:
        """Redis has answered the batch with its new mark."""
        first, last = batch.entries[0].sequence, batch.entries[-1].sequence
        if mark == last:
            self.sent += len(batch.entries)
            self.sent_again += sum(entry.sequence <= self._sent_up_to for entry in batch.entries)
            self.dropped += max(0, first - 1 - max(self._sent_up_to, min(batch.mark, first - 1)))
            self._sent_up_to = max(self._sent_up_to, last)
        self.knows(mark)

    def knows(self, mark: int) -> None:
        """Redis says how much it knows: continue exactly there."""
        self._mark = mark
