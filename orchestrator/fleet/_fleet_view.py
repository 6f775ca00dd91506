"""What `follow` gives: the view of a fleet, and the queue of its news.

The thread's deliveries come in on the event loop, by `take`. Whoever iterates is at a place of its
own, which `cursor` says: it may be far behind what the thread has read.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Self

import anyio
import anyio.lowlevel

from orchestrator._errors import OrchestratorError
from orchestrator.fleet._changes import MOST_INSTANCES, ChangeBook
from orchestrator.fleet._cursor import encode_cursor
from orchestrator.fleet._fleet_reader import Delivery
from orchestrator.fleet._group_source import Membership
from orchestrator.fleet._news import Change, Contact, FleetNews, Instance, Missed
from orchestrator.fleet._presence import PresenceVerdict
from states import Failure, FailureKind

_MOST_NEWS = 10_000
"""How much news waits to be iterated over. Beyond that the oldest is dropped, and changes among it
count as missed."""


class FleetUnreachable(OrchestratorError):
    """Redis can't be asked for the fleet. The text says why.

    Args:
        failure: Why.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class FleetView:
    """The instances of a service, and the news of them. `follow` makes it.

    Iterating gives the news: `Change`, `Presence`, `Missed`, `SilentTogether` and `Contact`. There
    is one queue of news: two loops that iterate at once share it.

    Attributes:
        service: The service.
        instances: All known instances by incarnation, as of now. Those that left, or went silent,
            stay for 10 minutes.
        contact: Whether Redis answers, and why not.
        failure: Why Redis does not answer; `None` while it does.
    """

    def __init__(self, service: str, book: ChangeBook, membership: Membership | None) -> None:
        self.service = service
        self.instances: Mapping[str, Instance] = MappingProxyType({})
        self.contact: Contact = Contact(reached=False, reason="Redis was not asked yet")
        self.failure: Failure | None = None
        self.book = book
        self.membership = membership
        self._news: deque[FleetNews | str] = deque()
        self._dropped: dict[str, Missed] = {}
        self._place = book.place
        self._seen = OrderedDict(book.seen)
        self._given = ""
        self._closed = False
        self._changed = anyio.Event()

    @property
    def repeated(self) -> int:
        """How many changes came again, and were skipped."""
        return self.book.repeated

    @property
    def missed(self) -> int:
        """How many changes could not be read any more."""
        return self.book.missed

    @property
    def unreadable(self) -> int:
        """How many entries and states were forged, or of a later version."""
        return self.book.unreadable

    @property
    def crowded(self) -> bool:
        """Whether there are more than 20,000 instances, so that not all are shown."""
        return self.book.crowded

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """How many instances there are in each stage, of each version, with each presence.

        Those that left do not count; once the fleet is not followed any more, there are none. From
        any thread, for metrics.
        """
        instances = () if self._closed else self.instances.values()
        return Counter(
            (str(one.stage), one.version, str(one.presence))
            for one in instances
            if one.presence is not PresenceVerdict.LEFT
        )

    @property
    def cursor(self) -> str:
        """Where to go on after the last news that iterating gave, for `follow(cursor=)`."""
        # Including those that are not there now: what Redis has lost comes again, and is recognised
        # then.
        return encode_cursor(self._place, self._seen)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> FleetNews:
        if self._given and self.membership is not None:
            self.membership.finish(self._given)
            self._given = ""
        await anyio.lowlevel.checkpoint()  # before anything is taken, so that none is lost
        while True:
            if self._dropped:
                return self._give(self._dropped.pop(next(iter(self._dropped))))
            while self._news:
                one = self._news.popleft()
                if not isinstance(one, str):
                    return self._give(one)
                self._place = one
            if self._closed:
                raise StopAsyncIteration
            await self._change()

    def _give(self, one: FleetNews) -> FleetNews:
        if isinstance(one, Change):
            self._note(one.instance.incarnation, one.changed.sequence)
            self._place = one.place or self._place
            self._given = one.place
        elif isinstance(one, Missed):
            incarnation = one.instance.incarnation
            self._note(incarnation, self._seen.get(incarnation, 0) + one.count)
        return one

    def _note(self, incarnation: str, sequence: int) -> None:
        self._seen[incarnation] = sequence
        self._seen.move_to_end(incarnation)
        while len(self._seen) > MOST_INSTANCES:
            self._seen.popitem(last=False)

    async def _change(self) -> None:
        if self._changed.is_set():
            self._changed = anyio.Event()
        await self._changed.wait()

    # -- on the event loop, for the thread --------------------------------------------------------

    def take(self, delivery: Delivery, failure: Failure | None) -> None:
        """Take over what a turn brought. Called on the event loop."""
        if delivery.instances is not None:
            self.instances = MappingProxyType(dict(delivery.instances))
        if delivery.seen is not None:
            self._seen, self._place = OrderedDict(delivery.seen), delivery.place
        self.failure = failure
        self.contact = Contact(failure is None, failure.reason if failure else "")
        if self._news and isinstance(self._news[-1], str):
            self._news.pop()
        self._news.extend(delivery.news)
        self._news.append(delivery.place)
        while len(self._news) > _MOST_NEWS:
            self._drop(self._news.popleft())
        self._changed.set()

    def has_room(self) -> bool:
        """Whether there is room for more news. From any thread."""
        return self.membership is None or len(self._news) < _MOST_NEWS // 2

    def close(self) -> None:
        """Nothing more will come."""
        self._closed = True
        self._changed.set()

    def _drop(self, one: FleetNews | str) -> None:
        if isinstance(one, Change | Missed):
            incarnation = one.instance.incarnation
            count = 1 if isinstance(one, Change) else one.count
            before = self._dropped.get(incarnation)
            self._dropped[incarnation] = Missed(
                one.instance, count + (before.count if before else 0)
            )

    async def reached(self) -> None:
        """Return once Redis has answered.

        Raises:
            FleetUnreachable: When waiting won't help.
        """
        while not self.contact.reached:
            if self.failure is not None and self.failure.kind is FailureKind.PERMANENT:
                raise FleetUnreachable(self.failure)
            await self._change()
