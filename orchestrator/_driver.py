"""The driver: one task that turns time, probe results and conditions into facts.

Everything that happens is put into one inbox; one loop takes it, stamps it with the time, feeds
the machine and tells feed and observers. So the state is committed before anyone is told, and no
locks are needed. Attempts run in a task of their own, one at a time.
"""

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence

import anyio
from anyio.abc import TaskStatus

from orchestrator._feed import Feed
from orchestrator._pacing import Pacer
from orchestrator._ports import Clock, Observer, Probe, ProbeResult
from states import (
    BootFinished,
    ConditionChanged,
    Fact,
    Failure,
    FailureKind,
    ProbeFailed,
    ProbeSucceeded,
    Snapshot,
    StartupMachine,
    TimerFired,
)

logger = logging.getLogger("orchestrator")

_OVERTIME_SECONDS = 0.05
"""A probe keeps its deadline itself; one that has not returned this much later is cancelled. Where
the event loop was the one that was late, the probe gets this much once more: its result may be
there already, and a blocked loop is not to be mistaken for a dead Redis."""


class Driver:
    """Feeds one machine for as long as `run` runs.

    Args:
        machine: The machine; nobody else may feed it.
        feed: Where changes of stage are published.
        probe: What is asked.
        pacer: When it is asked.
        clock: The time.
        observers: Who is told of every fact.
        attempt_timeout_seconds: The total time of one attempt.
        change_floor_seconds: The least time between attempts that `Probe.changed` asks for.
    """

    def __init__(
        self,
        machine: StartupMachine,
        feed: Feed,
        probe: Probe,
        pacer: Pacer,
        clock: Clock,
        observers: Sequence[Observer],
        *,
        attempt_timeout_seconds: float,
        change_floor_seconds: float,
    ) -> None:
        self._machine = machine
        self._feed = feed
        self._probe = probe
        self._pacer = pacer
        self._clock = clock
        self._observers = list(observers)
        self._timeout_seconds = attempt_timeout_seconds
        self._change_floor_seconds = change_floor_seconds
        self._inbox: deque[Callable[[float], Fact]] = deque()
        self._wake = anyio.Event()
        self._pause: anyio.CancelScope | None = None
        self._probe_at = math.inf
        self._attempt: anyio.CancelScope | None = None
        self._overtime_at = math.inf
        self._extended = False
        self._late_seconds = 0.0
        self._scope = anyio.CancelScope()
        self.loop_lag_seconds = 0.0

    @property
    def snapshot(self) -> Snapshot:
        """All that the machine knows."""
        return self._machine.snapshot

    @property
    def next_probe_at(self) -> float | None:
        """When the next attempt is due; `None` while one is under way."""
        return self._probe_at if self._pause is not None else None

    def tell(self, name: str, satisfied: bool, reason: str) -> None:
        """A condition changed."""
        self._post(lambda at: ConditionChanged(at, name, satisfied, reason))

    def call_observers(self, call: Callable[[Observer], None]) -> None:
        """Tell every observer; one that raises is dropped, and the others are not affected."""
        for observer in tuple(self._observers):
            try:
                call(observer)
            except Exception:
                logger.exception("observer %r raised and is told nothing more", observer)
                self._observers.remove(observer)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Drive until stopped or cancelled. Started once the machine has left `booting`."""
        with self._scope:
            await self._drive(task_status)

    def stop(self) -> None:
        """Take no more facts: what falls from now on falls because the service ends."""
        self._scope.cancel()

    async def _drive(self, task_status: TaskStatus[None]) -> None:
        async with anyio.create_task_group() as tasks:
            self._take(BootFinished(self._clock.now()))
            task_status.started()
            tasks.start_soon(self._attempt_forever)
            while True:
                deadline = self._step()
                with self._clock.cancel_at(deadline):
                    await self._wake.wait()

    def _step(self) -> float:
        """Take all that has happened; return the time of the next thing to do."""
        self._wake = anyio.Event()
        now = self._clock.now()
        for _ in range(len(self._inbox)):  # what is posted meanwhile waits for the next turn
            self._take(self._inbox.popleft()(now))
        while (wake_at := self._machine.wake_at) is not None and wake_at <= now:
            self._take(TimerFired(now))
        if self._pause is not None and self._probe_at <= now:
            self._late_seconds = now - self._probe_at
            self._pause.cancel()
            self._pause = None
        if self._attempt is not None and self._overtime_at <= now:
            self._end_overtime(self._attempt, now)
        deadlines = [math.inf if wake_at is None else wake_at]
        if self._pause is not None:
            deadlines.append(self._probe_at)
        if self._attempt is not None:
            deadlines.append(self._overtime_at)
        return min(deadlines)

    def _end_overtime(self, attempt: anyio.CancelScope, now: float) -> None:
        late_seconds = now - self._overtime_at
        if late_seconds > _OVERTIME_SECONDS and not self._extended:
            self._extended = True
            self._late_seconds = max(self._late_seconds, late_seconds)
            self._overtime_at = now + _OVERTIME_SECONDS
        else:
            self._overtime_at = math.inf
            attempt.cancel()

    def _take(self, fact: Fact) -> None:
        changed = self._machine.receive(fact)
        if changed is not None:
            self._feed.publish(changed)
        if isinstance(fact, ProbeSucceeded | ProbeFailed):
            self.loop_lag_seconds = fact.loop_lag_seconds
            self._probe_at = fact.at + self._pacer.delay_seconds(self._machine.snapshot)
        elif changed is not None:
            # A new stage may want its proof sooner than the old one, never later.
            again_at = fact.at + self._pacer.delay_seconds(self._machine.snapshot)
            self._probe_at = min(self._probe_at, again_at)
        self.call_observers(lambda observer: observer.observed(fact, changed))

    def _post(self, make: Callable[[float], Fact]) -> None:
        self._inbox.append(make)
        self._wake.set()

    # -- the attempts, in their own task -----------------------------------------------------------

    async def _attempt_forever(self) -> None:
        hurried = False
        while True:
            result = await self._attempt_once()
            self._post(_as_fact(result, self._late_seconds))
            # No checkpoint lies between the post and the pause: the driver finds both or neither.
            self._pause = pause = anyio.CancelScope()
            self._late_seconds = 0.0
            with pause:
                if hurried:  # a sign that nothing came of must not become a busy loop
                    await self._sleep(self._change_floor_seconds)
                await self._until_changed()
            hurried = not pause.cancelled_caught
            self._pause = None

    async def _attempt_once(self) -> ProbeResult:
        began_at = self._clock.now()
        self._overtime_at = began_at + self._timeout_seconds + _OVERTIME_SECONDS
        self._extended = False
        self._attempt = anyio.CancelScope()
        self._wake.set()  # for the driver to wait no longer than until then
        try:
            with self._attempt:
                return await self._probe.attempt(self._timeout_seconds)
        except Exception as error:  # noqa: BLE001  any exception of a probe is a failed attempt
            # Only the type is told, without a traceback: the text may hold a URL with a password.
            kind = type(error).__name__
            logger.error("the probe %r raised %s; taken as a failed attempt", self._probe, kind)
            failure = Failure(FailureKind.TRANSIENT, kind, f"the probe itself raised {kind}")
        else:
            failure = Failure(
                FailureKind.TRANSIENT,
                "TimeoutError",
                f"no result within {self._timeout_seconds:g} s",
            )
        finally:
            self._attempt = None
        return ProbeResult(self._clock.now() - began_at, failure)

    async def _until_changed(self) -> None:
        try:
            await self._probe.changed()
        except Exception as error:  # noqa: BLE001  it must not end the driver
            logger.error(
                "the probe %r raised %s while it was watched", self._probe, type(error).__name__
            )
            await anyio.sleep_forever()

    async def _sleep(self, seconds: float) -> None:
        with self._clock.cancel_at(self._clock.now() + seconds):
            await anyio.sleep_forever()


def _as_fact(result: ProbeResult, late_seconds: float) -> Callable[[float], Fact]:
    # The loop may have been late for the beginning of the attempt, its end, or both.
    lag_seconds = max(result.loop_lag_seconds, late_seconds)

    def make(at: float) -> Fact:
        if result.failure is None:
            return ProbeSucceeded(at, result.latency_seconds, lag_seconds)
        return ProbeFailed(at, result.latency_seconds, result.failure, lag_seconds)

    return make
