"""The line of held requests, and their paced release.

When the service becomes ready, letting all of them in at once would break what was just mended: a
pool of 100 connections fails 900 of 1,000 that enter together. So a few slots are given out, in
the order of arrival, and the next request is let in when an earlier one gives its slot back. The
pace is the application's own; nothing here sleeps to guess it.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import StrEnum

import anyio

from orchestrator._ports import Clock

ENTER_SECONDS = 1.0
"""A slot is given back after this long at the latest: a handler that takes its time to answer must
not hold up everybody behind it."""

SETTLE_SECONDS = 0.1
"""The same after a WebSocket was accepted. Most applications accept first and then do the costly
part, so the slot is kept until they first receive or send; one that only waits to push something
does neither."""


class Outcome(StrEnum):
    """What became of a request at the gate. The values are stable: metrics carry them."""

    ADMITTED = "admitted"
    """The application got it, at once or after being held."""

    REFUSED = "refused"
    """It was turned away because of the stage, or because the service stops."""

    LEFT = "left"
    """The client gave up while it was held."""

    OVERFLOW = "overflow"
    """It was turned away because too many were held already."""

    TIMED_OUT = "timed_out"
    """It was turned away because it had been held for as long as allowed."""


class Place:
    """One request at the gate. `decided` is set once `outcome` is known.

    Args:
        route: The route whose own limit counts it, if there is one.
    """

    __slots__ = ("decided", "held", "outcome", "route")

    def __init__(self, route: str | None = None) -> None:
        self.decided: anyio.Event = anyio.Event()
        self.outcome: Outcome | None = None
        self.route: str | None = route
        self.held: bool = False

    def decide(self, outcome: Outcome) -> Outcome:
        """Set the outcome, unless there is one already; return the one that counts."""
        if self.outcome is None:
            self.outcome = outcome
            self.decided.set()
        return self.outcome


class Line:
    """Held requests in order of arrival.

    Args:
        slots: How many may be entering the application at the same time.
        is_open: Whether requests may be let in now.
        clock: The time.
    """

    def __init__(self, slots: int, is_open: Callable[[], bool], clock: Clock) -> None:
        self._slots = slots
        self._is_open = is_open
        self._clock = clock
        self.waiting: OrderedDict[Place, None] = OrderedDict()  # quick to leave from anywhere
        self.by_route: Counter[str | None] = Counter()
        self._entering: dict[Place, float] = {}  # until when each may keep its slot
        self._wake = anyio.Event()

    def join(self, place: Place) -> None:
        """Stand at the end of the line."""
        place.held = True
        self.waiting[place] = None
        self.by_route[place.route] += 1

    def leave(self, place: Place) -> None:
        """Free the place, or the slot, if it is still taken."""
        if place in self.waiting:
            del self.waiting[place]
            self.by_route[place.route] -= 1
        if self._entering.pop(place, None) is not None:
            self.advance()

    def accepted(self, place: Place) -> None:
        """The application accepted a WebSocket: its slot is kept a little longer."""
        if place in self._entering:
            self._entering[place] = self._clock.now() + SETTLE_SECONDS
            self._wake.set()

    def advance(self) -> None:
        """Let in as many as there are free slots."""
        while self.waiting and len(self._entering) < self._slots and self._is_open():
            place = self._take_first()
            self._entering[place] = self._clock.now() + ENTER_SECONDS
            place.decide(Outcome.ADMITTED)
        if self.waiting:
            self._wake.set()

    def turn_away(self) -> None:
        """Refuse all that still wait."""
        while self.waiting:
            self._take_first().decide(Outcome.REFUSED)

    def _take_first(self) -> Place:
        place, _ = self.waiting.popitem(last=False)
        self.by_route[place.route] -= 1
        return place

    async def run(self) -> None:
        """Take back slots that were kept for too long, until cancelled."""
        while True:
            now = self._clock.now()
            for place in [place for place, until in self._entering.items() if until <= now]:
                del self._entering[place]
            self.advance()
            self._wake = anyio.Event()
            # Without anybody waiting, a slot may be kept for as long as it likes.
            due = min(self._entering.values(), default=math.inf) if self.waiting else math.inf
            with self._clock.cancel_at(due):
                await self._wake.wait()
