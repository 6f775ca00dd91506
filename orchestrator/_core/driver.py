"""The driver: one task that turns time, probe results and conditions into facts.

Results and conditions are put into one inbox; one loop takes them, stamps them with the time, feeds
the machine and passes it to feed and observers. So the state is committed before anyone sees it,
and no locks are needed. Attempts run in a task of their own, one at a time (`_probing/prober.py`).
"""

import math
from collections import deque
from collections.abc import Callable, Sequence

import anyio

from orchestrator._core.feed import Feed
from orchestrator._errors import ends_process, name_of_only
from orchestrator._hardening.guard import CallGuard, name_of
from orchestrator._hardening.log_thread import logger
from orchestrator._hardening.quiet_engine import quiet_engine
from orchestrator._ports import (
    Clock,
    KeptFact,
    Observer,
    Probe,
    ProbeResult,
    StartupContext,
)
from orchestrator._probing.pacing import Pacer
from orchestrator._probing.prober import Prober
from orchestrator._probing.shared_turns import Turns
from orchestrator._runtime.beside import beside
from orchestrator._runtime.clock import timers_of
from orchestrator._runtime.tasks import Uncancelled
from states import (
    BootFinished,
    ConditionChanged,
    DrainBegan,
    Fact,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    Snapshot,
    Stage,
    StageChanged,
    StartupMachine,
    TimerFired,
)

_BLOCKED_SECONDS = 1.0
"""An event loop lag that is worth a log line. A busy machine alone causes less."""


class Driver:
    """Feeds one machine for as long as `run` runs.

    Args:
        machine: The machine; nothing else may feed it.
        feed: Where changes of stage are published.
        probe: What is asked.
        pacer: When it is asked.
        clock: The time.
        observers: They get every fact.
        policy: The total time of one attempt, and the least time between two.
        turns: When it is asked in ready, if not by the pacer. An answer is then taken where it
            arrives, without waking the driver: it changes nothing, and costs half as much. Only
            where all observers are our own.

    Attributes:
        ended: Why it takes no more facts; `None` while it does. Committed before the feed closes.
    """

    def __init__(
        self,
        machine: StartupMachine,
        feed: Feed,
        probe: Probe,
        pacer: Pacer,
        clock: Clock,
        observers: Sequence[Observer],
        policy: Policy,
        *,
        turns: Turns | None = None,
    ) -> None:
        self._turns = turns
        self._machine = machine
        self._feed = feed
        self._probe = probe
        self._pacer = pacer
        self._clock = clock
        self._given = observers
        self._observers: list[tuple[Observer, CallGuard]] = []  # those that have begun
        self._uncancelled = Uncancelled()
        self._timers = timers_of(clock)
        self._prober = Prober(
            probe,
            clock,
            self._timers,
            self._post_result,
            self._wake_up,
            timeout_seconds=policy.attempt_timeout_seconds,
            change_floor_seconds=policy.retry_first_seconds,
            spread_seconds=lambda: pacer.spread_seconds(machine.snapshot),
        )
        self._inbox: deque[Callable[[float], Fact] | KeptFact] = deque()
        self._tells_kept = False
        self._wake = self._timers.flag()
        self._scope = anyio.CancelScope()
        self.loop_lag_seconds = 0.0
        self._said_blocked = (
            turns is not None
        )  # a check leaves this to the start-up that it is part of
        self.ended: str | None = None

    @property
    def snapshot(self) -> Snapshot:
        """All that the machine knows."""
        return self._machine.snapshot

    @property
    def next_probe_at(self) -> float | None:
        """When the next attempt is due; `None` while one is under way."""
        return self._prober.next_at if self._prober.idle else None

    def condition_changed(self, name: str, satisfied: bool, reason: str) -> None:
        """A condition changed. Called on the event loop."""
        self._post(lambda at: ConditionChanged(at, name, satisfied, reason))

    def drain_began(self, reason: str) -> None:
        """The drain has begun. Called on the event loop."""
        self._post(lambda at: DrainBegan(at, reason))

    def report(self, fact: KeptFact) -> None:
        """Something happened inside a condition. Observers hear of it with the next fact.

        To wake the driver for it would cost as much as a check's attempt itself.
        """
        if self._tells_kept:
            self._inbox.append(fact)

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers that have begun."""
        return tuple(observer for observer, _ in self._observers)

    def begin_observers(self, context: StartupContext) -> None:
        """Tell every observer of the start; one that raises cannot begin, and is left out."""
        for observer in self._given:
            guard = CallGuard("observer", observer)
            try:
                with self._uncancelled:
                    observer.started(context)
            except BaseException as error:
                if ends_process(error):
                    raise
                logger.error("%s could not begin, and gets no events", guard.name, error=error)
            else:
                self._observers.append((observer, guard))
                self._tells_kept |= type(observer).kept is not Observer.kept

    def end_observers(self, at: float) -> None:
        """Tell every observer of the end."""
        for posted in self._inbox:
            if isinstance(posted, KeptFact):
                self._tell_kept(posted)
        self._inbox.clear()
        self._call_observers(lambda observer: observer.stopped(at))
        for _, guard in self._observers:
            guard.sum_up()

    def _call_observers(self, call: Callable[[Observer], None]) -> None:
        """Tell every observer. What one raises affects neither the driver nor the others."""
        with self._uncancelled:
            for observer, guard in self._observers:
                guard.call(call, observer)

    async def settle(self) -> None:
        """Await this after calling observers: one may have cancelled the running task."""
        await self._uncancelled.settle()

    def boot(self) -> None:
        """Let the machine leave `booting`. Called before `run`."""
        self._take(BootFinished(self._clock.now()))

    async def run(self) -> None:
        """Drive until stopped or cancelled."""
        try:
            with self._scope:
                await self._drive()
        except BaseException as error:
            self._end(f"the orchestrator's driver ended with {name_of_only(error)}")
            raise
        finally:
            self._end("the orchestrator's driver was cancelled")
            self._feed.close()

    def stop(self, why: str) -> None:
        """Take no more facts: what falls from now on does so because the service ends."""
        self._end(f"the orchestrator was stopped: {why}")
        self._scope.cancel()
        self._wake_up()

    def _end(self, why: str) -> None:
        self.ended = self.ended or why  # the first reason is the cause of the others

    async def _drive(self) -> None:
        async with beside(self._prober.run, f"the probe {name_of(self._probe)}"):
            # Until anyio 4.7, a scope forgets its cancellation beside one that it did not order.
            while not self._scope.cancel_called:
                deadline = self._step()
                await self.settle()
                await self._timers.wait(self._wake, deadline)
                self._see_blocked(self._timers.now() - deadline)

    def _see_blocked(self, late_seconds: float) -> None:
        """Log once that the application blocks its event loop, which passes for other faults."""
        if late_seconds >= _BLOCKED_SECONDS and not self._said_blocked:
            self._said_blocked = True
            logger.warning(
                "the event loop was blocked for %.2f s or more: something that is not async ran in"
                " it, such as a sync client in an async handler, or the process was paused;"
                " PYTHONASYNCIODEBUG=1 names it; this is logged only once",
                late_seconds,
            )

    def _step(self) -> float:
        """Take all that has happened; return the time of the next thing to do."""
        self._wake = self._timers.flag()
        now = self._timers.now()
        for _ in range(len(self._inbox)):  # what is posted meanwhile waits for the next turn
            posted = self._inbox.popleft()
            if isinstance(posted, KeptFact):
                self._tell_kept(posted)
            else:
                self._take(posted(now))
        while (wake_at := self._machine.wake_at) is not None and wake_at <= now:
            if self._scope.cancel_called:
                break
            self._take(TimerFired(now))
        self._prober.tick(now)
        return min(math.inf if wake_at is None else wake_at, self._prober.due_at)

    def _take(self, fact: Fact) -> None:
        if self._scope.cancel_called:
            return
        with quiet_engine:
            changed = self._machine.receive(fact)
        if changed is not None:
            self._feed.publish(changed)
        self._schedule(fact, changed)
        self._call_observers(lambda observer: observer.observed(fact, changed))

    def _tell_kept(self, fact: KeptFact) -> None:
        self._call_observers(lambda observer: observer.kept(fact))

    def _schedule(self, fact: Fact, changed: StageChanged | None) -> None:
        """Reschedule the next attempt, if this fact requires it."""
        if isinstance(fact, ProbeSucceeded | ProbeFailed):
            self.loop_lag_seconds = fact.loop_lag_seconds
            self._see_blocked(fact.loop_lag_seconds)
            self._prober.next_at = self._next_after(fact)
        elif changed is not None:
            # A new stage may want its proof sooner than the old one, never later.
            again_at = fact.at + self._pacer.delay_seconds(self._machine.snapshot)
            self._prober.next_at = min(self._prober.next_at, again_at)

    def _next_after(self, fact: Fact) -> float:
        if self._machine.stage is not Stage.READY or type(fact) is not ProbeSucceeded:
            if self._turns is not None:
                self._turns.spread()
            return fact.at + self._pacer.delay_seconds(self._machine.snapshot)
        if self._turns is not None:
            return self._turns.after(fact.at)
        return fact.at + self._pacer.steady_seconds()  # mostly, and a snapshot costs something

    def _post_result(self, result: ProbeResult, late_seconds: float) -> None:
        make = _as_fact(result, late_seconds)
        steady = self._machine.stage is Stage.READY and result.failure is None
        if self._turns is not None and steady and not self._inbox:
            self._take(make(self._timers.now()))
        else:
            self._post(make)

    def _wake_up(self) -> None:
        self._wake.set()  # the flag of this turn, which is not the one of the next

    def _post(self, make: Callable[[float], Fact]) -> None:
        self._inbox.append(make)
        self._wake.set()


def _as_fact(result: ProbeResult, late_seconds: float) -> Callable[[float], Fact]:
    # The loop may have been late for the beginning of the attempt, its end, or both.
    lag_seconds = max(result.loop_lag_seconds, late_seconds)

    def make(at: float) -> Fact:
        if result.failure is None:
            return ProbeSucceeded(at, result.latency_seconds, lag_seconds)
        return ProbeFailed(at, result.latency_seconds, result.failure, lag_seconds)

    return make
