"""Fan-out of stage changes: ordered, replayed, bounded, and never in the machine's way.

How it works. Every event has a number, its `sequence`. The feed keeps the last `HISTORY` events,
and a subscription is only the number that it wants next. So a subscriber costs no queue, a slow one
delays no one, and no one can miss the final stage.

A subscriber that has seen all joins the *open batch* of those who wait; a batch that has had
`BATCH` joins is closed, and the next one is opened. An event, or the end of the feed, resumes the
batches: a few at once, inside `publish`; many by `deliver`, a slice in each turn of the loop, with
other tasks running in between, so that very many subscribers do not stall the loop.

A resumed subscriber has usually waited for just that event, and gets it with the resumption.
Otherwise it looks: another task may share its subscription, and trio passes no value.
"""

from collections import deque
from collections.abc import Callable
from typing import Self

import anyio
import anyio.lowlevel

from orchestrator._core.wait_batch import WaitBatch, Waiting, batch_maker
from states import StageChanged

HISTORY = 256
"""How many events are kept for subscribers that lag. A start-up has three."""

BATCH = 48
"""How many subscribers wait in one batch. They are resumed together, before other tasks run."""

MOST_BATCHES, TURNS = 4, 200
"""Up to `MOST_BATCHES` are resumed at once. If there are more, each turn of the loop resumes one,
or up to `MOST_BATCHES` if it would take more than `TURNS` turns: each turn has its cost, and none
may stall the loop for long.
"""


class Feed:
    """The events, and who waits for the next one."""

    def __init__(self) -> None:
        self.history: deque[StageChanged] = deque(maxlen=HISTORY)
        self._batches: dict[WaitBatch, None] = {}  # ordered, and quick to leave
        self._open: WaitBatch | None = None  # the last of them
        self._places = 0  # so many may still join it
        self._make_batch: Callable[[], WaitBatch] | None = None  # known once someone waits
        self._to_resume: deque[tuple[WaitBatch, StageChanged | None]] = deque()
        self._slice = BATCH
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
        """A subscription that begins with the latest event."""
        latest = self.latest
        return Subscription(self, latest.sequence if latest else 1)

    async def deliver(self) -> None:
        """Resume subscribers slice by slice, until the feed is closed and all are resumed."""
        while True:
            while self._to_resume:
                self._resume_some()
                await anyio.lowlevel.checkpoint()
            if self.closed:
                return
            self._work = anyio.Event()
            await self._work.wait()

    def resume_remaining(self) -> None:
        """Resume all at once, for when `deliver` was cancelled: a stop must end every stream."""
        while self._to_resume:
            self._resume_some()

    def event(self, sequence: int) -> StageChanged:
        """The published event with this number, or the oldest kept if it is gone."""
        latest = self.history[-1]
        if latest.sequence == sequence:
            return latest
        return self.history[max(0, sequence - self.history[0].sequence)]

    def open_batch(self) -> WaitBatch:
        """The batch to join to wait for the next event or the end; valid for one `join`."""
        batch = self._open
        if batch is None or not self._places:
            batch = self._next_batch()
        self._places -= 1
        return batch

    def leave(self, batch: WaitBatch, waiting: Waiting) -> None:
        """Take a subscriber that was cancelled out of its batch."""
        batch.leave(waiting)
        if batch is not self._open and not len(batch):
            self._batches.pop(batch, None)

    def _next_batch(self) -> WaitBatch:
        if self._open is not None and not len(self._open):
            del self._batches[self._open]  # all have left; while it was open, it was kept
        if self._make_batch is None:
            self._make_batch = batch_maker()
        batch = self._open = self._make_batch()
        self._batches[batch] = None
        self._places = BATCH
        return batch

    def _resume_all(self, event: StageChanged | None) -> None:
        batches = self._batches
        if len(batches) <= MOST_BATCHES and not self._to_resume:
            for batch in batches:
                batch.resume(event)
            if self._open is not None:  # it is empty now, and as good as a new one
                self._batches, self._places = {self._open: None}, BATCH
        else:
            self._batches, self._open = {}, None
            self._to_resume.extend((batch, event) for batch in batches)
            self._slice = BATCH * max(1, min(len(self._to_resume) // TURNS, MOST_BATCHES))
        if self._to_resume or self.closed:
            self._work.set()

    def _resume_some(self) -> None:
        resumed = 0
        while self._to_resume and resumed < self._slice:
            batch, event = self._to_resume.popleft()
            resumed += batch.resume(event)


class Subscription:
    """An endless stream of events: the latest first, then each new one exactly once, in order.

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

    @property
    def closed(self) -> bool:
        """Whether no further event will be published. Some may still be unseen."""
        return self._feed.closed

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StageChanged:
        feed = self._feed
        while self._next > feed.last_sequence:
            if feed.closed:
                raise StopAsyncIteration
            wanted, batch = self._next, feed.open_batch()
            waiting = batch.join()  # awaited here: a coroutine in between would cost each of many
            try:
                event = await waiting
            except BaseException:
                feed.leave(batch, waiting)
                raise
            if event is not None and self._next == wanted:
                break  # it has waited for just this one, and no one shares its place
        else:
            event = feed.event(self._next)
        self._missed += event.sequence - self._next
        self._next = event.sequence + 1
        return event
