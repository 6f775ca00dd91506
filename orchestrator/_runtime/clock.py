"""Time as the event loop sees it, so that a virtual loop clock is virtual here too."""

import asyncio
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

import anyio

from orchestrator._ports import Clock

_IMPORTED_AT = time.monotonic()


class LoopClock:
    """The running event loop's clock."""

    def now(self) -> float:
        """Monotonic seconds of the event loop.

        Raises:
            RuntimeError: Outside of an event loop.
        """
        return anyio.current_time()

    def started_at(self) -> float:
        """When the process started, in the loop's seconds."""
        return self.now() - process_age_seconds()

    def cancel_at(self, at: float) -> anyio.CancelScope:
        """A cancel scope with this deadline."""
        return anyio.CancelScope(deadline=at)


CallAt = Callable[[float, Callable[[], object]], asyncio.TimerHandle]
"""Calls a function at a time."""


class Flag(Protocol):
    """An event that one task waits for, once."""

    def set(self) -> object:
        """Let it go on. Called on the event loop."""
        ...

    async def wait(self) -> None:
        """Wait until it is set; other tasks get a turn in any case."""
        ...


class _FutureFlag:
    """On asyncio, at half of what an event of anyio costs."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        if not self._future.done():  # it is also when the one who waits was cancelled
            self._future.set_result(None)

    async def wait(self) -> None:
        if self._future.done():
            await asyncio.sleep(0)
        else:
            await self._future


class Timers:
    """Timers of a clock, in the event loop that runs; these fit every clock and every loop.

    Args:
        clock: The clock.

    Attributes:
        now: The clock's reading.
        call_at: Calls a function at a time; `None` on a clock that cannot.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.now: Callable[[], float] = clock.now
        self.call_at: CallAt | None = None

    def flag(self) -> Flag:
        """A flag for a task of this event loop."""
        return anyio.Event()

    async def wait(self, flag: Flag, until: float) -> None:
        """Wait for a flag, but not beyond a time."""
        with self._clock.cancel_at(until):
            await flag.wait()


class _AsyncioTimers(Timers):
    """On asyncio's own clock.

    A timer sets the flag: to cancel what waits, as a scope does, costs several times as much. And
    the loop is known, which anyio looks up for each reading.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._loop = loop = asyncio.get_running_loop()
        self.now = loop.time
        self.call_at = self._begin = loop.call_at

    def flag(self) -> Flag:
        return _FutureFlag(self._loop)

    async def wait(self, flag: Flag, until: float) -> None:
        timer = self._begin(until, flag.set) if until < math.inf else None
        try:
            await flag.wait()
        finally:
            if timer is not None:
                timer.cancel()


def timers_of(clock: Clock) -> Timers:
    """The timers of this clock, in the event loop that runs."""
    if type(clock) is LoopClock and anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return _AsyncioTimers(clock)
    return Timers(clock)


def process_age_seconds() -> float:
    """How long ago this process started.

    From the operating system where it tells cheaply (Linux: `starttime` in `/proc/self/stat`,
    counted in ticks of CLOCK_BOOTTIME since boot; see proc_pid_stat(5)); elsewhere since this
    module was imported. A forked worker's age counts from its fork.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The command name may contain spaces and brackets; the fields begin after the last one.
            # As bytes: a codec would be imported on the event loop.
            with open("/proc/self/stat", "rb") as file:  # noqa: PTH123  pathlib would be a tenth of what importing this package costs
                stat = file.read()
            ticks = int(stat.rpartition(b")")[2].split()[19])
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
            return max(0.0, age)
    return time.monotonic() - _IMPORTED_AT
