"""What the page remembers of a start-up: every change of stage and every recent attempt."""

import time
from collections import deque
from collections.abc import Callable
from itertools import takewhile
from typing import Protocol, runtime_checkable

import anyio

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._errors import AlreadyStarted
from orchestrator._ports import Observer, StartupContext
from states import (
    ConditionChanged,
    Fact,
    Failure,
    ProbeFailed,
    ProbeSucceeded,
    StageChanged,
)
from states._records import record

STAGES_KEPT = 256
"""A start-up has four stages; this many are hours of flapping."""

ATTEMPTS_KEPT = 256
"""The picture shows no more than that: at the steady pace, the last 20 minutes."""


@record
class ShownAttempt:
    """One attempt, as the page shows it.

    Attributes:
        number: 1 for the first of the start-up.
        at: When its result was taken, in monotonic seconds.
        latency_seconds: How long it took.
        failure: Why it failed; `None` for a success.
    """

    number: int
    at: float
    latency_seconds: float
    failure: Failure | None


class History(Observer):
    """Sees every fact, keeps the last ones, and wakes whoever waits for the next.

    Attributes:
        context: What is known from the beginning; `None` until the orchestrator is entered.
        ended: Whether the orchestrator was left.
        failures: How many attempts of the start-up failed.
        version: Grows when something changes that is sent at once.
    """

    def __init__(self) -> None:
        self.context: StartupContext | None = None
        self.ended = False
        self.failures = 0
        self.version = 0
        self._stages: deque[StageChanged] = deque(maxlen=STAGES_KEPT)
        self._attempts: deque[ShownAttempt] = deque(maxlen=ATTEMPTS_KEPT)
        self._changed: anyio.Event | None = None

    # -- the observer ------------------------------------------------------------------------------

    def started(self, context: StartupContext) -> None:
        """Forget an earlier start-up, and remember how to turn the clock's readings into dates."""
        self._stages.clear()
        self._attempts.clear()
        self.failures = 0
        self.context, self.ended, self._changed = context, False, None
        self.version += 1

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Keep attempts and changes of stage."""
        if changed is not None:
            self._stages.append(changed)
        match fact:
            case ProbeSucceeded():
                self._keep(fact.at, fact.latency_seconds, None)
            case ProbeFailed():
                self.failures += 1
                self._keep(fact.at, fact.latency_seconds, fact.failure)
        if changed is not None or isinstance(fact, ConditionChanged):
            self.version += 1
            self.wake()
        elif isinstance(fact, ProbeSucceeded | ProbeFailed):
            self.wake()

    def stopped(self, at: float) -> None:  # the port's
        """Let every stream end."""
        self.ended = True
        self.wake()

    def _keep(self, at: float, latency_seconds: float, failure: Failure | None) -> None:
        number = self._attempts[-1].number + 1 if self._attempts else 1
        self._attempts.append(ShownAttempt(number, at, latency_seconds, failure))

    # -- for the streams ---------------------------------------------------------------------------

    def changed(self) -> anyio.Event:
        """What is set with the next change. Take it before looking, and no change is missed."""
        if self._changed is None:
            self._changed = anyio.Event()
        return self._changed

    def wake(self) -> None:
        """Wake whoever waits."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def stages_after(self, sequence: int) -> list[StageChanged]:
        """The changes of stage that are kept and have a higher number."""
        newest = takewhile(lambda changed: changed.sequence > sequence, reversed(self._stages))
        return list(newest)[::-1]

    def attempts_after(self, number: int) -> list[ShownAttempt]:
        """The attempts that are kept and have a higher number."""
        newest = takewhile(lambda attempt: attempt.number > number, reversed(self._attempts))
        return list(newest)[::-1]

    @property
    def probe(self) -> str:
        """What is asked, by name."""
        return self.context.target.name if self.context is not None else ""

    @property
    def last_sequence(self) -> int:
        """The number of the last change of stage; 0 before the first."""
        return self._stages[-1].sequence if self._stages else 0

    @property
    def stage_since(self) -> float:
        """When the current stage was entered, in monotonic seconds."""
        if self._stages:
            return self._stages[-1].at
        return self.context.started_at if self.context is not None else 0.0

    def unix_seconds(self, at: float) -> float:
        """A reading of the orchestrator's clock as a date."""
        if self.context is None:
            return time.time()
        return self.context.now_unix_nanoseconds / 1e9 + (at - self.context.now_at)


@runtime_checkable
class Traced(Protocol):
    """An observer that writes a trace of the start-up."""

    @property
    def trace_id(self) -> str | None:
        """32 hexadecimal digits; `None` while it is not known."""
        ...


def attach(startup: Orchestrator, history: History) -> Callable[[], str | None]:
    """Let the history see every fact from now on; return what tells the trace's id.

    Raises:
        AlreadyStarted: When the orchestrator is entered already: what it has seen is gone.
    """
    if startup.running:
        raise AlreadyStarted(
            "web_app(startup) is made too late: make it before the orchestrator is entered, so that"
            " the page knows the start-up from its beginning"
        )
    startup.observe(history)
    traced = [observer for observer in startup.observers if isinstance(observer, Traced)]
    return lambda: next((found for one in traced if (found := one.trace_id)), None)
