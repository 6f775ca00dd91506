"""The drain: how a service ends its work, on one clock, whoever asks for it and however often.

The first request for a drain begins the first of its phases:

- It is announced. `/readyz` fails from the first moment, new requests are still served, and the
  callbacks of `on_drain` run. This lasts for `drain_announce_seconds`, and until the callbacks have
  returned, but leaves `drain_close_seconds` of the limit.
- Nothing new is taken. Gates refuse new requests, close open WebSockets evenly over
  `drain_close_seconds`, and wait until everything inside has ended.
- It is over: everything has ended, `drain_limit_seconds` have passed since it began, someone cut it
  short, or the orchestrator is left.

A signal begins it in `_gate/stop_signals.py`; what it asks of a gate is in `_gate/in_flight.py`.
Its task is a companion of the start-up, and each callback has a task of its own: one that raises,
calls `sys.exit()`, or does not end when it is cancelled holds nothing up.
"""

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import field
from typing import Any, Protocol, TypeVarTuple

import anyio
import anyio.lowlevel

from orchestrator._core.feed import Subscription
from orchestrator._hardening.guard import name_of
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock
from orchestrator._runtime.event_loop import EventLoop, SpawnedTask
from states import Policy
from states._records import record

TimesT = TypeVarTuple("TimesT")

DrainCallback = Callable[[], object]
"""A plain or an async function without arguments."""


class Drainable(Protocol):
    """Something with requests to finish, such as a gate."""

    async def drain_announced(self) -> None:
        """The drain has begun: what cannot be served any more may be refused now."""
        ...

    async def wind_down(self, close_seconds: float) -> None:
        """Refuse what is new, close WebSockets evenly over that time; return when all has ended."""
        ...

    @property
    def inside(self) -> int:
        """How many requests and WebSockets are under way; from any thread."""
        ...

    @property
    def awaits(self) -> bool:
        """Whether there is more to wait for than these; asked in a signal handler."""
        ...


@record
class DrainParts:
    """What takes part in the drains of one orchestrator.

    Attributes:
        callbacks: What runs first.
        drainables: What has requests to end.
    """

    callbacks: list[DrainCallback] = field(default_factory=list)
    drainables: list[Drainable] = field(default_factory=list)

    @property
    def inside(self) -> int:
        """How many requests and WebSockets are under way."""
        return sum(one.inside for one in tuple(self.drainables))

    @property
    def needed(self) -> bool:
        """Whether a drain has anything to do."""
        if self.callbacks or self.inside:
            return True
        return any(one.awaits for one in tuple(self.drainables))


class Drain:
    """The drain of one start-up. All of it but the attributes is used on the event loop.

    Args:
        policy: Its times.
        parts: What takes part.
        clock: The time.
        loop: The event loop.
        post: Called with the reason as it begins.

    Attributes:
        began_at: When it began, in the clock's seconds; `None` before.
        refuses: Whether nothing new is taken any more.
        over: Whether it is over.
    """

    def __init__(
        self,
        policy: Policy,
        parts: DrainParts,
        clock: Clock,
        loop: EventLoop,
        post: Callable[[str], object],
    ) -> None:
        self._policy = policy
        self._parts = parts
        self._clock = clock
        self._loop = loop
        self._post = post
        self._reason = ""
        self._announce_seconds = policy.drain_announce_seconds
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope()
        self.began_at: float | None = None
        self.refuses = False
        self.over = False

    def text(self, now: float) -> str:
        """Its state, in one line; empty before it begins. From any thread."""
        began_at = self.began_at
        if began_at is None:
            return ""
        text = f"{self._reason}, {now - began_at:.1f} s ago; "
        if self.over:
            return text + "it is over"
        if self.refuses:
            left = self.seconds_left(now)
            return f"{text}under way: {self._parts.inside}; it ends within {left:.1f} s"
        refuses = max(0.0, began_at + self._announce_seconds - now)
        return f"{text}new requests are served for {refuses:.1f} s more"

    def seconds_left(self, now: float) -> float:
        """The most that it takes from now on, whether or not it has begun. From any thread."""
        began_at = now if self.began_at is None else self.began_at
        return max(0.0, began_at + self._policy.drain_limit_seconds - now)

    def begin(self, reason: str, *, announce: bool) -> bool:
        """Begin it, unless it has begun; return whether this call began it."""
        if self.began_at is not None:
            return False
        policy = self._policy
        self.began_at, self._reason = self._clock.now(), reason
        self._announce_seconds = policy.drain_announce_seconds if announce else 0.0
        self._post(reason)
        logger.info(
            "draining (%s): /readyz fails; new requests are served for %g s, then WebSockets are"
            " closed over %g s; %g s in all at most",
            reason,
            self._announce_seconds,
            policy.drain_close_seconds,
            policy.drain_limit_seconds,
        )
        return True

    async def wait(self) -> None:
        """Wait until it is over."""
        await self._ended.wait()

    def cut_short(self, why: str) -> None:
        """End it now."""
        if self.began_at is not None and not self.over:
            logger.warning("the drain is cut short: %s", why)
            self._scope.cancel()

    async def run(self, events: Subscription) -> None:
        """Drain; a companion, which ends with its stream of events."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run_phases, tasks.cancel_scope)
                async for _ in events:
                    pass  # only its end matters
                tasks.cancel_scope.cancel()
        finally:
            self.end()

    def end(self) -> None:
        """End it, whether or not it has begun."""
        if not self.over:
            self.over = self.refuses = True
            self._ended.set()

    async def _run_phases(self, outer: anyio.CancelScope) -> None:
        policy, began_at = self._policy, self.began_at or 0.0
        until = began_at + policy.drain_limit_seconds
        try:
            with self._scope:
                with self._clock.cancel_at(until) as limit:
                    async with anyio.create_task_group() as tasks:
                        for one in self._parts.drainables:
                            tasks.start_soon(_guarded, one.drain_announced)
                    announced_at = began_at + self._announce_seconds
                    await self._announce(announced_at, until - policy.drain_close_seconds)
                    self.refuses = True
                    await self._close()
                if limit.cancelled_caught and (inside := self._parts.inside):
                    logger.warning(
                        "the drain has reached drain_limit_seconds (%g s): requests and WebSockets"
                        " that are still under way: %d",
                        policy.drain_limit_seconds,
                        inside,
                    )
        finally:
            self.end()
            logger.info("drained after %.2f s", self._clock.now() - began_at)
            outer.cancel()

    async def _announce(self, announced_at: float, latest: float) -> None:
        """Serve on until the time is up and the callbacks have returned."""
        running = [_RunningCallback(one, self._loop) for one in self._parts.callbacks]
        with anyio.CancelScope(shield=True):  # each has its turn, however short the limit is
            await anyio.lowlevel.checkpoint()
        try:
            with self._clock.cancel_at(latest):
                for one in running:
                    await one.ended.wait()
                with self._clock.cancel_at(announced_at):
                    await anyio.sleep_forever()
        finally:
            for one in running:
                one.leave_behind()

    async def _close(self) -> None:
        close_seconds = self._policy.drain_close_seconds
        async with anyio.create_task_group() as tasks:
            for one in self._parts.drainables:
                tasks.start_soon(_guarded, one.wind_down, close_seconds)


async def _guarded(drain: Callable[[*TimesT], Coroutine[Any, Any, None]], *times: *TimesT) -> None:
    try:
        await drain(*times)
    except Exception as error:  # it is logged
        logger.error("a gate could not be drained", error=error)


class _RunningCallback:
    """One callback that runs, in a task of its own.

    Attributes:
        ended: Set when it has returned, or raised.
    """

    def __init__(self, callback: DrainCallback, loop: EventLoop) -> None:
        self._callback = callback
        self.ended = anyio.Event()
        self._task: SpawnedTask | None = loop.spawn(
            self._run, "startup-orchestrator on_drain", self.ended.set
        )

    async def _run(self) -> None:
        try:
            outcome = self._callback()
            if inspect.isawaitable(outcome):
                await outcome
        except KeyboardInterrupt:
            raise  # Ctrl-C ends the process, wherever it arrives
        except BaseException as error:
            # `sys.exit` in a task would leave through the event loop, past the drain.
            if not isinstance(error, anyio.get_cancelled_exc_class() | GeneratorExit):
                logger.error("%s raised in the drain", name_of(self._callback), error=error)
            elif isinstance(error, GeneratorExit):
                raise

    def leave_behind(self) -> None:
        """Cancel and abandon it, if it still runs."""
        if not self.ended.is_set() and self._task is not None:
            logger.warning(
                "%s did not return in the drain in time, and is cancelled", name_of(self._callback)
            )
            self._task.cancel()
            self._task.abandon()
