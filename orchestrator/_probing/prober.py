"""Makes the attempts: one at a time, when they are due, each with a verdict in time.

Two tasks share a `Prober`. `run` is a task of its own: it makes an attempt, posts the result to the
driver, pauses, and begins again. The driver calls `tick` whenever `due_at` has come, says with
`next_at` when the next attempt is wanted, and gets each result through `post`. So `tick` ends a
pause, and judges an attempt that has not come back; it never waits. Where a timer can end the
pause, `tick` has only to judge.

A probe keeps its deadline itself, so most attempts are over by then. For one that is not, `tick`
goes through the members of `AttemptPhase`, one at a time: a moment more where the event loop itself
was late, then cancellation, and in the end a verdict without the probe, repeated until it returns.
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import anyio

from orchestrator._hardening.guard import name_of
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock, Probe, ProbeResult
from orchestrator._probing.attempt_phase import Attempt, AttemptPhase
from orchestrator._probing.cancellable import CancellableProbe
from orchestrator._probing.guarded_attempt import Ask, guarded_attempt
from orchestrator._probing.void_attempts import VoidAttempts
from orchestrator._probing.watched_probe import EndWatching, WatchedProbe
from orchestrator._runtime.clock import Flag, Timers
from orchestrator._runtime.tasks import must_pass
from states import Failure, FailureKind

Post = Callable[[ProbeResult, float], None]
"""Takes a result, and by how many seconds the event loop was late for its attempt."""

_OVERTIME_SECONDS = 0.04
"""How long after its deadline a probe must have returned, and again after it was cancelled."""


class Prober:
    """The attempts of one driver.

    Args:
        probe: What is asked.
        clock: The time.
        timers: Its timers.
        post: Takes each result.
        wake: Called when `due_at` may have become earlier.
        timeout_seconds: The total time of one attempt.
        change_floor_seconds: The least time between attempts that `Probe.changed` asks for.
        spread_seconds: Tells how long to wait before an attempt that `Probe.changed` asks for.
    """

    def __init__(
        self,
        probe: Probe,
        clock: Clock,
        timers: Timers,
        post: Post,
        wake: Callable[[], None],
        *,
        timeout_seconds: float,
        change_floor_seconds: float,
        spread_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._probe = probe
        self._ask: Ask = partial(probe.attempt, timeout_seconds)
        if isinstance(probe, CancellableProbe):
            self._ask = probe.ask
        self._name = name_of(probe)
        self._clock = clock
        self._timers = timers
        self._now = timers.now
        self._post = post
        self._wake = wake
        self._timeout_seconds = timeout_seconds
        self._overtime_seconds = _OVERTIME_SECONDS + probe.overtime_seconds
        self._change_floor_seconds = change_floor_seconds
        self._spread_seconds = spread_seconds
        self._next_at = math.inf
        # At most one of the two is set; neither while one gives way to the other.
        self._pause: anyio.CancelScope | Flag | None = None
        self._attempt: Attempt | None = None
        self._scope = anyio.CancelScope()  # what attempts run in
        self._sees_changes = type(probe).changed is not Probe.changed
        self._watched = probe if isinstance(probe, WatchedProbe) and self._sees_changes else None
        # If the clock has timers, one ends the pause, and another wakes the driver for an attempt
        # that does not come back; otherwise the driver has to wake up for both.
        self._call_at = timers.call_at
        self._timer: asyncio.TimerHandle | None = None
        self._is_rescheduled = False  # whether `next_at` was said after the last attempt
        self._expected_by = math.inf  # when an attempt that was just begun has to be judged
        self._late_seconds = 0.0
        self._hurried = False  # whether a change that the probe saw ended the last pause
        self._again = False  # whether the last attempt was void
        self._void_attempts = VoidAttempts(self._name)

    # -- called by the driver ---------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether no attempt is under way."""
        return self._pause is not None

    @property
    def next_at(self) -> float:
        """When the next attempt is to begin."""
        return self._next_at

    @next_at.setter
    def next_at(self, at: float) -> None:
        self._next_at = at
        self._is_rescheduled = True
        if self._pause is not None:
            self._time_pause()

    @property
    def due_at(self) -> float:
        """When `tick` is wanted next."""
        if self._pause is not None:
            return self.next_at if self._timer is None else math.inf
        if self._attempt is None:
            return self._expected_by
        if self._attempt.phase is AttemptPhase.GIVEN_UP:
            return self.next_at + self._timeout_seconds
        return self._attempt.judge_at

    def tick(self, now: float) -> None:
        """Begin an attempt that is due, or judge one whose time is up."""
        if now < self.due_at:
            return
        if self._pause is not None:
            self._end_pause()
        elif self._attempt is not None:
            self._judge(self._attempt, now)

    def _end_pause(self) -> None:
        now = self._now()
        self._stop_timer()
        self._late_seconds = max(0.0, now - self.next_at)  # a timer may be early by a tick
        # With this, the attempt need not wake the driver when it begins.
        self._expected_by = now + self._timeout_seconds + self._overtime_seconds
        if isinstance(self._pause, anyio.CancelScope):
            self._pause.cancel()
        elif self._pause is not None:
            self._pause.set()
        self._pause = None

    def _end_timed_pause(self) -> None:
        self._timer = None  # it has fired: there is nothing to cancel
        self._end_pause()

    def _time_pause(self) -> None:
        self._stop_timer()
        if self._call_at is not None and self._next_at < math.inf:
            self._timer = self._call_at(self._next_at, self._end_timed_pause)

    def _time_pause_if_known(self) -> None:
        # A driver that took the result as it was posted won't wake up to say it again, late or not.
        if self._is_rescheduled or self._next_at > self._now():
            self._time_pause()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _judge(self, attempt: Attempt, now: float) -> None:
        late_seconds = now - attempt.judge_at
        attempt.judge_at = now + _OVERTIME_SECONDS
        match attempt.phase:
            case AttemptPhase.RUNNING if late_seconds > _OVERTIME_SECONDS:
                attempt.phase = AttemptPhase.EXTENDED
                attempt.late_seconds = max(attempt.late_seconds, late_seconds)
            case AttemptPhase.RUNNING | AttemptPhase.EXTENDED:
                attempt.phase = AttemptPhase.CANCELLED
                self._scope.cancel()
            case AttemptPhase.CANCELLED:
                attempt.phase = AttemptPhase.GIVEN_UP
                logger.warning(
                    "the probe %s does not react to being cancelled; it is taken for failed until"
                    " it returns",
                    self._name,
                )
                self._post(self._timed_out(), attempt.late_seconds)
            case AttemptPhase.GIVEN_UP:
                self._post(self._timed_out(), 0.0)  # it still has not returned

    # -- the task of its own ----------------------------------------------------------------------

    async def run(self) -> None:
        """Make attempts until cancelled."""
        try:
            while True:
                # One scope serves all attempts until it has to cut one off: entering one for each
                # would cost half as much as everything else.
                with anyio.CancelScope() as self._scope:
                    while self._end_attempt(await self._made_attempt()):
                        await self._wait_for_next()
                if self._attempt is not None:
                    self._end_attempt(self._timed_out())
                await self._wait_for_next()
        finally:
            self._stop_timer()

    async def _made_attempt(self) -> ProbeResult:
        """Make an attempt, and have `tick` judge it in time."""
        judge_at = self._now() + self._timeout_seconds + self._overtime_seconds
        self._attempt = Attempt(judge_at, self._late_seconds)
        self._late_seconds = 0.0
        if self._call_at is not None:
            self._timer = self._call_at(judge_at, self._wake)
        elif self._expected_by == math.inf:
            self._wake()
        self._expected_by = math.inf
        return await guarded_attempt(self._ask, self._name, self._now)

    def _end_attempt(self, result: ProbeResult) -> bool:
        """Post the result if it counts; return whether the scope serves another attempt.

        There is no checkpoint between this and the pause: the driver sees both or neither.
        """
        attempt, self._attempt = self._attempt, None
        assert attempt is not None, "it was begun"
        self._stop_timer()
        self._again = self._is_rescheduled = False
        if attempt.phase is AttemptPhase.GIVEN_UP:
            self._wake()  # it was judged already, and the next one may be due
        elif self._void_attempts.includes(result):
            self._again, self._late_seconds = True, attempt.late_seconds
        else:
            if result.void and result.failure is None:
                result = replace(result, failure=self._timed_out().failure)
            self._post(result, attempt.late_seconds)
            if self._call_at is None and self._next_at < attempt.judge_at:
                self._wake()  # the driver may sleep until this attempt would have been judged
        return not self._scope.cancel_called

    async def _wait_for_next(self) -> None:
        """Pause until `tick` ends it, or the probe sees a change; void attempts are repeated."""
        if self._again:  # as if there had been none
            return
        stop_watching = self._watch()
        if self._sees_changes and stop_watching is None:
            await self._pause_in_scope(seen=False)
            return
        self._pause = over = self._timers.flag()  # much cheaper than to cancel what waits
        self._time_pause_if_known()
        try:
            await over.wait()
        finally:
            if stop_watching is not None:
                stop_watching()
        if self._pause is not None:  # it was not the time that ended it
            await self._pause_in_scope(seen=True)

    def _watch(self) -> EndWatching | None:
        if self._watched is None or self._hurried or self._call_at is None:
            return None
        return self._watched.watch(self._see_change)

    def _see_change(self) -> None:
        if self._pause is not None and not isinstance(self._pause, anyio.CancelScope):
            self._pause.set()

    async def _pause_in_scope(self, *, seen: bool) -> None:
        """Pause until a change, unless one was seen already, and then for a part of the spread."""
        self._pause = pause = anyio.CancelScope()
        self._time_pause_if_known()
        with pause:
            if self._hurried:  # a sign that nothing came of must not become a busy loop
                await self._sleep(self._change_floor_seconds)
            if not seen:
                await self._until_changed()
            if spread_seconds := self._spread_seconds():
                await self._sleep(spread_seconds)
        self._pause = None
        self._stop_timer()
        self._hurried = not pause.cancelled_caught

    async def _sleep(self, seconds: float) -> None:
        with self._clock.cancel_at(self._clock.now() + seconds):
            await anyio.sleep_forever()

    def _timed_out(self) -> ProbeResult:
        reason = f"no result within {self._timeout_seconds:g} s"
        failure = Failure(FailureKind.TRANSIENT, "TimeoutError", reason)
        return ProbeResult(self._timeout_seconds, failure)

    async def _until_changed(self) -> None:
        try:
            await self._probe.changed()
            return
        except BaseException as error:  # it must not end the driver
            if must_pass(error):
                raise
            what = type(error).__name__
        logger.error("the probe %s raised %s while it was watched", self._name, what)
        await anyio.sleep_forever()
