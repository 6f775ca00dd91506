"""Makes the attempts: one at a time, when they are due, each with a verdict in time.

`run` is a task of its own. The driver calls `tick` whenever `due_at` has come, says with `next_at`
when the next attempt is wanted, and gets each result through `post`.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import anyio

from orchestrator._hardening.guard import name_of
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock, Probe, ProbeResult
from orchestrator._runtime.tasks import must_pass
from states import Failure, FailureKind

Post = Callable[[ProbeResult, float], None]
"""Takes a result, and by how many seconds the event loop was late for its attempt."""

_OVERTIME_SECONDS = 0.04
"""A probe keeps its deadline itself. One that has not returned this much later is cancelled, and
one that does not react to that within as long is judged without its result. Where the event loop
was the one that was late, the probe gets this much once more: its result may be there already, and
a blocked loop is not to be mistaken for a dead Redis."""

_MOST_VOID = 5
"""So many attempts in a row may be void. After them one counts as a failure: a process that never
runs in time cannot say that Redis is well."""


class Prober:
    """The attempts of one driver.

    Args:
        probe: What is asked.
        clock: The time.
        post: Takes each result.
        wake: Called when `due_at` may have become earlier.
        timeout_seconds: The total time of one attempt.
        change_floor_seconds: The least time between attempts that `Probe.changed` asks for.
    """

    def __init__(
        self,
        probe: Probe,
        clock: Clock,
        post: Post,
        wake: Callable[[], None],
        *,
        timeout_seconds: float,
        change_floor_seconds: float,
    ) -> None:
        self._probe = probe
        self._name = name_of(probe)
        self._clock = clock
        self._post = post
        self._wake = wake
        self._timeout_seconds = timeout_seconds
        self._overtime_seconds = _OVERTIME_SECONDS + probe.overtime_seconds
        self._change_floor_seconds = change_floor_seconds
        self.next_at = math.inf
        self._pause: anyio.CancelScope | None = None
        self._attempt: anyio.CancelScope | None = None
        self._judge_at = math.inf
        self._extended = False
        self._given_up = False
        self._late_seconds = 0.0
        self._void_in_row = 0
        self._said_void = False

    @property
    def idle(self) -> bool:
        """Whether no attempt is under way."""
        return self._pause is not None

    @property
    def due_at(self) -> float:
        """When `tick` is wanted next."""
        if self._pause is not None:
            return self.next_at
        if self._given_up:
            return self.next_at + self._timeout_seconds
        return self._judge_at if self._attempt is not None else math.inf

    def tick(self, now: float) -> None:
        """Begin an attempt that is due, or judge one whose time is up."""
        if now < self.due_at:
            return
        if self._pause is not None:
            self._late_seconds = now - self.next_at
            self._pause.cancel()
            self._pause = None
        elif self._given_up:
            self._post(self._timed_out(), 0.0)  # it still has not returned
        elif self._attempt is not None:
            self._judge(self._attempt, now)

    def _judge(self, attempt: anyio.CancelScope, now: float) -> None:
        late_seconds = now - self._judge_at
        self._judge_at = now + _OVERTIME_SECONDS
        if attempt.cancel_called:
            self._given_up = True
            logger.warning(
                "the probe %s does not react to being cancelled; it is taken for failed until it"
                " returns",
                self._name,
            )
            self._post(self._timed_out(), self._late_seconds)
        elif late_seconds > _OVERTIME_SECONDS and not self._extended:
            self._extended = True
            self._late_seconds = max(self._late_seconds, late_seconds)
        else:
            attempt.cancel()

    async def run(self) -> None:
        """Make attempts until cancelled."""
        hurried = False
        while True:
            result = await self._ask()
            if self._is_void(result):
                continue
            if self._given_up:
                self._given_up = False  # it was judged already
                self._wake()
            else:
                self._post(result, self._late_seconds)
            # No checkpoint lies between the post and the pause: the driver finds both or neither.
            self._pause = pause = anyio.CancelScope()
            self._late_seconds = 0.0
            with pause:
                if hurried:  # a sign that nothing came of must not become a busy loop
                    with self._clock.cancel_at(self._clock.now() + self._change_floor_seconds):
                        await anyio.sleep_forever()
                await self._until_changed()
            hurried = not pause.cancelled_caught
            self._pause = None

    def _is_void(self, result: ProbeResult) -> bool:
        """Whether the attempt is to be repeated, as if there had been none."""
        self._void_in_row = self._void_in_row + 1 if result.void else 0
        if not self._void_in_row or self._void_in_row > _MOST_VOID or self._given_up:
            return False
        if not self._said_void:
            self._said_void = True
            logger.warning(
                "an attempt of %s does not count, since this process did not run in time; does C"
                " code hold the interpreter, or is there too little CPU? This is said only once",
                self._name,
            )
        return True

    async def _ask(self) -> ProbeResult:
        self._judge_at = self._clock.now() + self._timeout_seconds + self._overtime_seconds
        self._extended = False
        self._attempt = anyio.CancelScope()
        self._wake()
        result: ProbeResult | None = None
        with self._attempt:
            result = await self._guarded_attempt()
        self._attempt = None
        if result is None:
            return self._timed_out()
        if result.void and result.failure is None:
            return replace(result, failure=self._timed_out().failure)
        return result

    async def _guarded_attempt(self) -> ProbeResult:
        began_at = self._clock.now()
        try:
            result = await self._probe.attempt(self._timeout_seconds)
        except BaseException as error:  # any exception of a probe is a failed attempt
            if must_pass(error):
                raise
            what = type(error).__name__
        else:
            if isinstance(result, ProbeResult):
                return result
            what = f"no ProbeResult but {type(result).__name__}"  # type: ignore[unreachable]  # not every probe is type-checked
        # Only the type is told, without a traceback: the text may hold a URL with a password.
        logger.error("the probe %s gave %s; taken as a failed attempt", self._name, what)
        failure = Failure(FailureKind.TRANSIENT, what.split()[-1], f"the probe itself gave {what}")
        return ProbeResult(self._clock.now() - began_at, failure)

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


class AlwaysAnswers(Probe):
    """Stands in for the probe when the orchestrator is disabled."""

    async def attempt(self, timeout_seconds: float) -> ProbeResult:  # the port's
        """Ask nobody."""
        return ProbeResult(0.0)
