"""One reader of a fleet for all browsers that watch. It starts with the first one.

Nothing has to be entered or left: the reader's thread ends by itself a while after the last browser
has gone, when it has news and finds that no one has asked for any. An ASGI application that is
mounted somewhere hears of no shutdown, and test clients give each request a loop of its own.
"""

import math
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio

from orchestrator._runtime.event_loop import EventLoop
from orchestrator.fleet._changes import ChangeBook
from orchestrator.fleet._fleet_board import FleetBoard
from orchestrator.fleet._fleet_reader import Delivery
from orchestrator.fleet._follower import Follower
from orchestrator.fleet._news import Contact, Instance
from orchestrator.fleet._reader_link import reader_settings
from orchestrator.fleet._wire import fleet_keys
from states import Failure

if TYPE_CHECKING:
    import redis
    import redis.asyncio

LINGER_SECONDS = 30.0
"""How long the reader goes on without a browser, since pages are reloaded."""

_FEWEST_SECONDS = 0.25
"""How often the rows of up to a thousand instances are made anew, at most."""

_SHARE_OF_LOOP = 0.1
"""Very large fleets are shown more rarely, so that making their rows takes no more of the event
loop, which the application needs."""

_NOT_ASKED = Contact(reached=False, reason="Redis was not asked yet")


class SharedFollow:
    """Follows a fleet while anybody asks.

    Args:
        url: The Redis that the instances publish to, or the application's client.
        service: The service.

    Attributes:
        board: What is shown.
        contact: Whether Redis answers, and why not.
        contact_since: Since when, in Unix seconds.
        book: What was given out; it counts what was missed and what could not be read.

    Raises:
        ValueError: When the URL or the name can't be used.
    """

    def __init__(self, url: "str | redis.Redis | redis.asyncio.Redis", service: str) -> None:
        self._keys = fleet_keys(service)
        self.service = service
        self._settings = reader_settings(url)
        self.board = FleetBoard()
        self.contact = _NOT_ASKED
        self.contact_since = time.time()
        self.book = ChangeBook(service)
        self._failed = False
        self._follower: Follower | None = None
        self._loop: EventLoop | None = None
        self._changed = anyio.Event()
        self._asking = 0
        self._asked_at = -math.inf
        self._instances: list[Instance] | None = None
        self._shown_at = -math.inf
        self._pause_seconds = _FEWEST_SECONDS

    @contextmanager
    def asking(self) -> Generator[None]:
        """Follow for as long as the block runs, and a while longer. On the event loop."""
        self._begin()
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            self._asked_at = time.monotonic()

    async def heard(self, seconds: float) -> None:
        """Return once Redis has answered, or said why not; after so many seconds at most."""
        with anyio.move_on_after(seconds):
            while not (self.contact.reached or self._failed):
                await self.changed().wait()

    def changed(self) -> anyio.Event:
        """It is set at the next change."""
        if self._changed.is_set():
            self._changed = anyio.Event()
        return self._changed

    def refresh(self) -> None:
        """Bring the board up to date, unless that was done a moment ago."""
        now = time.monotonic()
        if self._instances is not None and now - self._shown_at >= self._pause_seconds:
            self.board.show(self._instances)
            self._instances, self._shown_at = None, time.monotonic()
            took = self._shown_at - now
            self._pause_seconds = max(_FEWEST_SECONDS, took / _SHARE_OF_LOOP)

    def wake(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()

    def close(self) -> None:
        """End the reader."""
        if self._follower is not None:
            self._follower.close()
            self._follower = None

    # -- the reader -------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._loop is not None and (self._loop.ended or not self._loop.is_current):
            self.close()
        if self._follower is not None:
            return
        self._loop = loop = EventLoop()
        self._changed = anyio.Event()
        # Whatever an earlier reader knew may be old by hours: the page waits for this one's answer.
        self.book, self.board, self._instances = ChangeBook(self.service), FleetBoard(), None
        self._shown_at = -math.inf
        self.contact, self._failed = _NOT_ASKED, False
        self.contact_since = time.time()

        def deliver(delivery: Delivery, failure: Failure | None) -> None:
            try:
                loop.call(partial(self._take, follower, delivery, failure))
            except RuntimeError:  # the event loop has ended
                follower.close()

        self._follower = follower = Follower(
            self._settings,
            self._keys,
            self.book,
            None,
            deliver=deliver,
            has_room=lambda: True,
            ended=lambda: None,
        )
        follower.start()

    def _take(self, follower: Follower, delivery: Delivery, failure: Failure | None) -> None:
        if follower is not self._follower:
            return
        if not self._asking and time.monotonic() - self._asked_at > LINGER_SECONDS:
            self.close()
            return
        contact = Contact(failure is None, failure.reason if failure else "")
        turned = contact != self.contact
        if turned:
            self.contact, self.contact_since = contact, time.time()
        self._failed = failure is not None
        if delivery.instances is not None:
            self._instances = [*delivery.instances.values()]
        for one in delivery.news:
            if not isinstance(one, Contact):
                self.board.add_news(one, time.time())
        # An empty fleet brings nothing else; whoever waits for the first answer has it then.
        if turned or delivery.instances is not None or delivery.news or failure is not None:
            self.wake()
