"""What any task or thread of the application may ask of a start-up."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Self

from orchestrator._core.companions import Companion, Companions
from orchestrator._core.drain import Drain
from orchestrator._core.driver import Driver
from orchestrator._errors import NotRunning
from orchestrator._ports import Clock
from orchestrator._runtime.clock import LoopClock
from orchestrator._runtime.event_loop import EventLoop


class LifeAccess:
    """The part of a `Life` that any thread may use; the life itself sets the attributes."""

    loop: EventLoop
    clock: Clock
    driver: Driver
    drain: Drain
    companions: Companions
    running: bool
    stopping: bool

    @property
    def ended(self) -> str | None:
        """Why no more facts are taken; `None` while they are. From any thread."""
        if self.driver.ended is None and self.loop.is_closed():
            return "the orchestrator's event loop was closed"
        return self.driver.ended

    def now(self) -> float:
        """The clock's reading; from any thread, if the clock allows that, as the loop's does."""
        return self.loop.now() if isinstance(self.clock, LoopClock) else self.clock.now()

    def on_loop(self, function: Callable[[], object]) -> None:
        """Call it: now on the event loop, soon from elsewhere, never once the loop has ended."""
        if self.loop.is_current:
            function()
            return
        with contextlib.suppress(RuntimeError):
            self.loop.call(function)

    def require_running(self, how: str) -> Self:
        """Return this if it runs; otherwise raise `NotRunning`, with `how` to use it."""
        if not self.running:
            when = "any more: it was left" if self.stopping else "yet: it is being entered"
            raise NotRunning(f"the orchestrator does not run {when}; {how}")
        return self

    def set_condition(self, name: str, satisfied: bool, reason: str) -> None:
        """Pass on the state of a condition. Does nothing once it is stopped, or its loop is gone.

        Raises:
            NotRunning: While it is being entered.
        """
        if not (self.running or self.stopping):
            raise NotRunning("the orchestrator takes no conditions while it is being entered")
        if not self.stopping:
            self.on_loop(partial(self.driver.condition_changed, name, satisfied, reason))

    def accompany(self, companion: Companion) -> None:
        """Begin a companion, from any thread, unless this start-up is ending."""
        if not self.stopping:
            self.on_loop(partial(self.companions.begin, companion))

    def begin_drain(self, reason: str, *, announce: bool) -> None:
        """Begin the drain, unless it has begun, or this start-up is ending. On the event loop."""
        if self.stopping:
            self.drain.end()
        elif self.drain.begin(reason, announce=announce):
            self.companions.begin(self.drain.run)

    def drain_seconds_left(self) -> float:
        """The most seconds until a drain ends that begins now or has begun."""
        if self.stopping or self.drain.over:
            return 0.0
        return self.drain.seconds_left(self.now())

    def cut_drain_short(self, why: str) -> None:
        """End a drain soon; not here and now, since signal handlers call this, too."""
        with contextlib.suppress(RuntimeError):
            self.loop.call(partial(self.drain.cut_short, why))
