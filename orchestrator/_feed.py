"""Fan-out of stage changes: ordered, replayed, bounded, and never in the machine's way.

The feed keeps the last events; a subscription is a place in that row. So a subscriber costs a
number and no queue, a slow one delays nobody, and nobody can miss the final stage. Waiting
subscribers share one event object per shard, and shards are woken one by one with other tasks
running in between: telling very many does not stall the loop.
"""

from collections import deque
from typing import Self

import anyio
import anyio.lowlevel

from states import StageChanged

HISTORY = 256
"""How many events are kept for subscribers that lag. A start-up has three."""

SHARD = 256
"""How many waiting subscribers are woken at once, before other tasks run."""


class _Shard:
    """Up to `SHARD` waiting subscribers with one event object between them."""

    __slots__ = ("event", "waiting")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.waiting = 0


class Feed:
    """The row of events, and who waits for the next one."""

    def __init__(self) -> None:
        self._history: deque[StageChanged] = deque(maxlen=HISTORY)
        self._shards: dict[_Shard, None] = {}  # ordered, and quick to leave
        self._open: _Shard | None = None
        self._to_wake: deque[_Shard] = deque()
        self._work = anyio.Event()
        self.closed = False

    @property
    def latest(self) -> StageChanged | None:
        """The last event, if there was any."""
        return self._history[-1] if self._history else None

    def publish(self, event: StageChanged) -> None:
        """Add an event. Returns at once; `deliver` wakes the subscribers."""
        self._history.append(event)
        self._wake_all()

    def close(self) -> None:
        """End every subscription after what it has not seen yet."""
        self.closed = True
        self._wake_all()

    def subscribe(self) -> "Subscription":
        """A place in the row that begins with the latest event."""
        latest = self.latest
        return Subscription(self, latest.sequence if latest else 1)

    async def deliver(self) -> None:
        """Wake waiting subscribers shard by shard, until the feed is closed and all are awake."""
        while True:
            while self._to_wake:
                self._to_wake.popleft().event.set()
                await anyio.lowlevel.checkpoint()
            if self.closed:
                return
            self._work = anyio.Event()
            await self._work.wait()

    def wake_remaining(self) -> None:
        """Wake all at once, for when `deliver` was cancelled: a stop must end every stream."""
        while self._to_wake:
            self._to_wake.popleft().event.set()

    def next_from(self, sequence: int) -> StageChanged | None:
        """The event with this number, or the oldest kept if it is gone; `None`: not there yet."""
        latest = self.latest
        if latest is None or sequence > latest.sequence:
            return None
        oldest = self._history[0].sequence
        return self._history[max(0, sequence - oldest)]

    async def wait(self) -> None:
        """Wait for the next event or the end."""
        shard = self._open
        if shard is None or shard.waiting >= SHARD:
            shard = self._open = _Shard()
            self._shards[shard] = None
        shard.waiting += 1
        try:
            await shard.event.wait()
        finally:
            shard.waiting -= 1
            if not shard.waiting and shard is not self._open:
                self._shards.pop(shard, None)

    def _wake_all(self) -> None:
        self._to_wake.extend(self._shards)
        self._shards.clear()
        self._open = None
        self._work.set()


class Subscription:
    """An endless row of events: the latest at once, then each later one, once and in order.

    It ends when the orchestrator is left. Iterate over it with `async for`; dropping it is enough
    to unsubscribe.
    """

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
        while (event := self._feed.next_from(self._next)) is None:
            if self._feed.closed:
                raise StopAsyncIteration
            await self._feed.wait()
        self._missed += event.sequence - self._next
        self._next = event.sequence + 1
        return event
