"""Fan-out of stage changes: ordered, replayed, bounded, and never in the machine's way.

The feed keeps the last events; a subscription is a place in that row. So a subscriber costs a
number and no queue, a slow one delays nobody, and nobody can miss the final stage. Subscribers
that wait are resumed slice by slice, with other tasks running in between: telling very many does
not stall the loop.
"""

from collections import deque
from collections.abc import Callable
from typing import Self

import anyio
import anyio.lowlevel

from orchestrator._core.wait_batch import Row, Waiting, row_maker
from states import StageChanged

HISTORY = 256
"""How many events are kept for subscribers that lag. A start-up has three."""

ROW = 48
"""How many subscribers wait in one row. They are resumed together, before other tasks run."""

MOST_ROWS, TURNS = 4, 200
"""So few rows are resumed at once. Of more, one in each turn of the loop, or up to so many if there
are more turns than this otherwise: each has its cost, and none may stall the loop for long."""


class Feed:
    """The row of events, and who waits for the next one."""

    def __init__(self) -> None:
        self.history: deque[StageChanged] = deque(maxlen=HISTORY)
        self._rows: dict[Row, None] = {}  # ordered, and quick to leave
        self._open: Row | None = None  # the last of them
        self._places = 0
        self._make_row: Callable[[], Row] | None = None  # known once somebody waits
        self._to_resume: deque[tuple[Row, StageChanged | None]] = deque()
        self._slice = ROW
        self._work = anyio.Event()
        self.last_sequence: int = 0
        self.closed: bool = False

    @property
    def latest(self) -> StageChanged | None:
        """The last event, if there was any."""
        return self.history[-1] if self.history else None

    def publish(self, event: StageChanged) -> None:
        """Add an event. Returns at once; the subscribers run later."""
        self.history.append(event)
        self.last_sequence = event.sequence
        self._resume_all(event)

    def close(self) -> None:
        """End every subscription after what it has not seen yet."""
        self.closed = True
        self._resume_all(None)

    def subscribe(self) -> "Subscription":
        """A place in the row that begins with the latest event."""
        latest = self.latest
        return Subscription(self, latest.sequence if latest else 1)

    async def deliver(self) -> None:
        """Resume waiting subscribers slice by slice, until the feed is closed and all go on."""
        while True:
            while self._to_resume:
                self._resume_some()
                await anyio.lowlevel.checkpoint()
            if self.closed:
                return
            self._work = anyio.Event()
            await self._work.wait()

    def wake_remaining(self) -> None:
        """Resume all at once, for when `deliver` was cancelled: a stop must end every stream."""
        while self._to_resume:
            self._resume_some()

    def event(self, sequence: int) -> StageChanged:
        """The event with this number, which was published; or the oldest kept, if it is gone."""
        return self.history[max(0, sequence - self.history[0].sequence)]

    def row(self) -> Row:
        """Where to join those who wait for the next event or the end; good for one call of it."""
        row = self._open
        if row is None or not self._places:
            row = self._new_row()
        self._places -= 1
        return row

    def leave(self, row: Row, waiting: Waiting) -> None:
        """Who joined there was cancelled."""
        row.leave(waiting)
        if row is not self._open and not len(row):
            self._rows.pop(row, None)

    def _new_row(self) -> Row:
        if self._open is not None and not len(self._open):
            del self._rows[self._open]  # all have left; while it was open, it was kept
        if self._make_row is None:
            self._make_row = row_maker()
        row = self._open = self._make_row()
        self._rows[row] = None
        self._places = ROW
        return row

    def _resume_all(self, event: StageChanged | None) -> None:
        rows = self._rows
        if len(rows) <= MOST_ROWS and not self._to_resume:
            for row in rows:
                row.resume(event)
            if self._open is not None:  # it is empty now, and as good as a new one
                self._rows, self._places = {self._open: None}, ROW
        else:
            self._rows, self._open = {}, None
            self._to_resume.extend((row, event) for row in rows)
            self._slice = ROW * max(1, min(len(self._to_resume) // TURNS, MOST_ROWS))
        if self._to_resume or self.closed:
            self._work.set()

    def _resume_some(self) -> None:
        resumed = 0
        while self._to_resume and resumed < self._slice:
            row, event = self._to_resume.popleft()
            resumed += row.resume(event)


class Subscription:
    """An endless row of events: the latest at once, then each later one, once and in order.

    It ends when the orchestrator is left. Iterate over it with `async for`; dropping it is enough
    to unsubscribe.
    """

    __slots__ = ("__weakref__", "_feed", "_missed", "_next")

    def __init__(self, feed: Feed, next_sequence: int) -> None:
        self._feed = feed
        self._next = next_sequence
        self._missed = 0

    @property
    def missed(self) -> int:
        """How many events were dropped because this subscriber was more than `HISTORY` behind."""
        return self._missed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StageChanged:
        feed, sequence = self._feed, self._next
        while sequence > feed.last_sequence:
            if feed.closed:
                raise StopAsyncIteration
            row = feed.row()
            waiting = row.join()
            try:
                event = await waiting
            except BaseException:
                feed.leave(row, waiting)
                raise
            if self._next != sequence:  # another task reads the same row, and was quicker
                sequence = self._next
            elif event is not None:  # the one that it waited for: whoever waits has seen the rest
                break
        else:
            event = feed.history[-1]
            if event.sequence != sequence:
                event = feed.event(sequence)
        self._missed += event.sequence - sequence
        self._next = event.sequence + 1
        return event
