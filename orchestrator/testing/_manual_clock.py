"""Time that moves on command."""

import math
from contextlib import AbstractContextManager
from types import TracebackType

import anyio
import anyio.lowlevel

_TURNS = 20
"""Turns of the event loop in which an idle application surely comes to rest."""


class ManualClock:
    """Time that moves only when `advance` is called; on asyncio and trio alike.

    Args:
        now: The first reading, in seconds.
        age_seconds: How long before it the process started.
    """

    def __init__(self, now: float = 0.0, *, age_seconds: float = 0.0) -> None:
        self._now = now
        self._started_at = now - age_seconds
        self._timers: dict[anyio.CancelScope, float] = {}

    def now(self) -> float:
        """The time that it was advanced to."""
        return self._now

    def started_at(self) -> float:
        """When the process started, as given to the constructor."""
        return self._started_at

    def cancel_at(self, at: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """A cancel scope that is cancelled once time is advanced to `at`."""
        return _ManualScope(self._timers, at, already_due=at <= self._now)

    async def advance(self, seconds: float) -> None:
        """Let time pass: every timer that is due on the way fires at its own time, in order.

        Before, between and after, all other tasks run until they wait for something.
        """
        target = self._now + seconds
        await _settle()
        while self._timers and (at := min(self._timers.values())) <= target:
            self._now = max(self._now, at)
            self._fire()
            await _settle()
        self._now = target

    async def jump(self, seconds: float) -> None:
        """Let time pass all at once, as when the process was frozen: timers are late."""
        await _settle()
        self._now += seconds
        self._fire()
        await _settle()

    def _fire(self) -> None:
        for scope, at in tuple(self._timers.items()):
            if at <= self._now:
                del self._timers[scope]
                scope.cancel()


class _ManualScope:
    """A cancel scope with a deadline on a `ManualClock`."""

    def __init__(
        self, timers: dict[anyio.CancelScope, float], at: float, *, already_due: bool
    ) -> None:
        self._timers = timers
        self._at = at
        self._scope = anyio.CancelScope()
        if already_due:
            self._scope.cancel()

    def __enter__(self) -> anyio.CancelScope:
        if self._at < math.inf:
            self._timers[self._scope] = self._at
        return self._scope.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._timers.pop(self._scope, None)
        return bool(self._scope.__exit__(kind, error, traceback))


async def _settle() -> None:
    """Let all other tasks run until each waits for something."""
    for _ in range(_TURNS):  # on asyncio, `wait_all_tasks_blocked` sleeps 0.1 s when one is busy
        await anyio.lowlevel.checkpoint()
    await anyio.wait_all_tasks_blocked()
