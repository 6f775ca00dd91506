"""Watches from another thread whether the event loop still turns."""

import time
from collections.abc import Callable

STUCK_SECONDS = 5.0
"""A loop that has not turned for so long is stuck."""

_PAUSE_SECONDS = 5.0
"""If the watching thread itself paused for so long, so did the process: that says nothing."""


class LoopWatch:
    """Asks the event loop to answer, again and again.

    Args:
        call: Calls a function on the event loop, from any thread.
        now: Monotonic seconds.

    Attributes:
        loop_has_ended: Whether the event loop can never answer again.
    """

    def __init__(
        self,
        call: Callable[[Callable[[], object]], object],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call = call
        self._now = now
        self._asked_at = now()
        self._answered = True
        self._looked_at = self._asked_at
        self.loop_has_ended = False

    def stuck_seconds(self) -> float | None:
        """For how many seconds the loop has been stuck; `None` while it is not."""
        now = self._now()
        was_away, self._looked_at = now - self._looked_at > _PAUSE_SECONDS, now
        if self._answered or was_away:
            self._asked_at = now
        silent = now - self._asked_at
        self._answered = False
        try:
            self._call(self._answer)
        except RuntimeError:
            self.loop_has_ended = True
        return silent if silent >= STUCK_SECONDS else None

    def _answer(self) -> None:
        self._answered = True
