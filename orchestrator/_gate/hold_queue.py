"""The queue of held requests, and what became of each.

A held request waits for the outcome of its `Ticket`. The `Turnstile` admits the first in the queue,
and `turn_away` refuses them; the request's own task, in the adapter, then does what that means.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from enum import StrEnum

import anyio

from orchestrator._gate.patience import Patience


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


class Ticket:
    """One request at the gate. `decided` is set once `outcome` is known.

    Args:
        route: The route whose own limit counts it, if there is one.
        path: Its path, by which its handler is judged.

    Attributes:
        held: Whether it has been in the queue.
        retry_after_seconds: In how many seconds it is asked to come back, once it is refused.

    The others belong to the `Turnstile` and to the `Visit`:

    Attributes:
        early: Whether it came before the service was ready, or so soon after that it may have been
            refused before, and its first message is not handed over yet.
        patience: How long its handler may work without giving a sign.
        slot_tick: When its handler got the slot that it has, or had last.
        began_tick: When its handler's unit of work began, or when it began to answer; `None` while
            it waits for a message.
        until_tick: Until when its handler may keep its slot.
        freed_tick: When its handler had a slot last.
        answering: Whether its handler has sent something in this unit.
        unanswered: How many messages of this unit have not been answered with anything yet.
        called: Whether its turn came while its handler was not waiting for it: it is next.
        granted: Whether its handler waits for a message, and has got the slot for it, but not the
            message yet.
        spoken: Whether any message was handed over.
    """

    __slots__ = (
        "answering",
        "began_tick",
        "called",
        "decided",
        "early",
        "freed_tick",
        "granted",
        "held",
        "outcome",
        "path",
        "patience",
        "retry_after_seconds",
        "route",
        "slot_tick",
        "spoken",
        "unanswered",
        "until_tick",
    )

    def __init__(self, route: str | None = None, path: str = "") -> None:
        self.decided: anyio.Event = anyio.Event()
        self.outcome: Outcome | None = None
        self.route: str | None = route
        self.held: bool = False
        self.retry_after_seconds: int = 1
        self.path: str = path
        self.early: bool = True
        self.patience: Patience | None = None
        self.began_tick: int | None = None
        self.slot_tick: int = 0
        self.until_tick: int = 0
        self.freed_tick: int = 0
        self.answering: bool = False
        self.unanswered: int = 0
        self.called: bool = False
        self.granted: bool = False
        self.spoken: bool = False

    def decide(self, outcome: Outcome) -> Outcome:
        """Set the outcome, unless there is one already; return the one that counts."""
        if self.outcome is None:
            self.outcome = outcome
            self.decided.set()
        return self.outcome


class HoldQueue:
    """Held requests in order of arrival.

    Args:
        max_held: How many may wait at once.
        limits: How many of them may wait for a path or anything below it.
    """

    def __init__(self, max_held: int, limits: Mapping[str, int]) -> None:
        self._max_held = max_held
        # The longest first: the limit of the nearest route counts.
        self._limits = dict(sorted(limits.items(), key=lambda item: -len(item[0])))
        self.waiting: OrderedDict[Ticket, None] = OrderedDict()  # quick to leave from anywhere
        self.by_route: Counter[str | None] = Counter()

    def begin_anew(self) -> None:
        """Forget those who waited on an event loop that is gone."""
        self.waiting.clear()
        self.by_route.clear()

    def route_of(self, path: str) -> str | None:
        """The nearest route that has a limit of its own, if there is one."""
        for route in self._limits:
            if path == route or path.startswith(route.rstrip("/") + "/"):
                return route
        return None

    def is_full(self, route: str | None, least: int) -> bool:
        """Whether no one else may wait; `least` may in any case."""
        if len(self.waiting) >= max(self._max_held, least):
            return True
        return route is not None and self.by_route[route] >= max(self._limits[route], least)

    def join(self, ticket: Ticket) -> None:
        """Join the end of the queue."""
        ticket.held = True
        self.waiting[ticket] = None
        self.by_route[ticket.route] += 1

    def leave(self, ticket: Ticket) -> None:
        """Leave the queue, if it is still in it."""
        if ticket in self.waiting:
            del self.waiting[ticket]
            self.by_route[ticket.route] -= 1

    def turn_away(self, most: float = math.inf) -> None:
        """Refuse those that still wait, or at most `most` of them, in order of arrival."""
        while self.waiting and most > 0:
            self.take_first().decide(Outcome.REFUSED)
            most -= 1

    def take_first(self) -> Ticket:
        """Take out the one that has waited longest."""
        ticket, _ = self.waiting.popitem(last=False)
        self.by_route[ticket.route] -= 1
        return ticket
