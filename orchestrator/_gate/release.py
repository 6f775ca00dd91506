"""How long a release lasts, and how many slots there are.

**Early** clients were held, or came while refused ones may be on their way back. Of those inside,
only those whose first message still waits are early. While an early client waits, no slots are
added. Each is early only once, so this ends.

**Growth.** If the waiting crowd has not become smaller for 10 s, it is more than a start-up's:
slots grow by a quarter each second, and shrink when a handler fails. After a minute of `ready`,
neither failures nor pauses stop this growth, so no service is throttled for ever.

**The end** comes once no one has waited for a second, and those who were refused early have had
time to come back.
"""

import math
from collections.abc import Callable

from orchestrator._ports import Clock

_CALM_TICKS = 20
"""1 s in which no one waited."""

_GROW_AFTER_TICKS = 200
"""10 s in which someone waited, and not fewer at the end than at the beginning."""

_OLD_TICKS = 1200
"""60 s of `ready`, after which nothing holds up growth but early clients who wait."""

_RETURN_MARGIN_SECONDS = 1.0
_STALL_SECONDS = 0.15
"""After this long without a tick, which should come every 0.05 s, the event loop has stalled."""

_MOST_RETURNS_SECONDS = 60.0
"""For how long those who are refused again and again count as early."""


class Release:
    """Decides when a release ends, and when it needs more slots.

    Args:
        slots: How many there are at first, and at least.
        clock: The time.
        return_seconds: How long those who are refused are asked to stay away, at most, if they
            are few.

    Attributes:
        slots: How many there are now.
    """

    def __init__(self, slots: int, clock: Clock, return_seconds: float) -> None:
        self.least_slots: int = slots
        self._clock = clock
        self._return_seconds = return_seconds + _RETURN_MARGIN_SECONDS
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget an earlier start-up."""
        self._returning_until = -math.inf
        self._stood_still_seconds = 0.0
        self._ticked_at: float | None = None
        self.begin()

    def begin(self) -> None:
        """The service is not ready; the next release is a new one."""
        self.slots = self.least_slots
        self._opened_at = self._early_until = math.inf  # no one came since it opened
        self._open_ticks = self._calm_ticks = self._full_ticks = 0
        self._smallest_backlog = math.inf

    def ticked(self, at: float | None) -> None:
        """The event loop ran at this time; `None` if ticks are not counted for now.

        No client can come back to a stalled loop, so a stall does not count as time.
        """
        if at is not None and self._ticked_at is not None:
            seconds = at - self._ticked_at
            if seconds > _STALL_SECONDS:
                self._stood_still_seconds += seconds
                self.unsettled()
        self._ticked_at = at

    def _now(self) -> float:
        now = self._clock.now()
        if self._ticked_at is not None and now - self._ticked_at > _STALL_SECONDS:
            now = self._ticked_at  # the tick that sees the stall is yet to come
        return now - self._stood_still_seconds

    def refused(self, seconds: float, *, is_open: bool) -> None:
        """Someone was turned away, and is asked to come back in so many seconds.

        A client that was early will still be early when it is back.
        """
        now, away = self._now(), max(seconds + _RETURN_MARGIN_SECONDS, self._return_seconds)
        if not is_open:
            self._returning_until = max(self._returning_until, now + away)
        elif self.is_early():
            most = self._opened_at + _MOST_RETURNS_SECONDS
            until = min(now, most) + away
            self._returning_until = max(self._returning_until, until)
            self._early_until = max(self._early_until, min(until, most + self._return_seconds))

    def is_early(self) -> bool:
        """Whether one that comes now, while the service is ready, may have been refused before."""
        now = self._now()
        if self._opened_at == math.inf:
            most = min(self._returning_until, now + _MOST_RETURNS_SECONDS)
            self._opened_at, self._early_until = now, max(now + self._return_seconds, most)
        return now < self._early_until

    def failed(self) -> None:
        """A handler failed: if there are more slots than at first, they are too many."""
        if self.slots > self.least_slots and self._open_ticks < _OLD_TICKS:
            self.slots = max(self.least_slots, self.slots * 3 // 4)
            self._full_ticks = -_GROW_AFTER_TICKS

    def unsettled(self) -> None:
        """Someone waits, or may do so in a moment."""
        self._calm_ticks = 0

    def count_tick(self, backlog: int, early_one_waits: Callable[[], bool]) -> None:
        """Count a tick of `ready` in which `backlog` clients waited; add slots if needed."""
        self._open_ticks += 1
        self._calm_ticks = 0 if backlog else self._calm_ticks + 1
        if self._open_ticks < _OLD_TICKS and (not backlog or backlog < self._smallest_backlog):
            self._full_ticks = min(self._full_ticks, 0)
            self._smallest_backlog = backlog or math.inf
        elif backlog:
            self._full_ticks += 1
            grows = self._full_ticks >= _GROW_AFTER_TICKS and self._full_ticks % _CALM_TICKS == 0
            if grows and not early_one_waits():
                self.slots += max(1, self.slots // 4)

    @property
    def over(self) -> bool:
        """Whether no one needs a slot any more."""
        return self._calm_ticks > _CALM_TICKS and self._now() >= self._returning_until
