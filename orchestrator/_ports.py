"""What the orchestrator asks of the parts that it is given: probe, observer, clock."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import anyio
import anyio.lowlevel

from orchestrator._hardening.arguments import require, require_flag
from orchestrator._hardening.text import MOST_NAME_CHARACTERS, reason_of
from states import (
    Fact,
    Failure,
    FailureKind,
    Missing,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    StageChanged,
)
from states._records import put, record


@record
class ProbeResult:
    """How one attempt ended.

    Attributes:
        latency_seconds: How long the attempt took, measured where the lag of the event loop cannot
            add to it.
        failure: Why it failed; `None` for a success.
        loop_lag_seconds: How long the result then waited for the event loop.
        void: Whether the attempt ran out of time because this process did not run, so that it says
            nothing about what was asked. It counts as neither success nor failure, and is repeated
            at once; one of many in a row counts as a failure.

    The words of the failure are kept as one printable line each, of 500 characters at most.

    Raises:
        TypeError: When a part is of the wrong type.
        ValueError: When a time is negative or no finite number.
    """

    latency_seconds: float
    failure: Failure | None = None
    loop_lag_seconds: float = 0.0
    void: bool = False

    def __init__(
        self,
        latency_seconds: float,
        failure: Failure | None = None,
        loop_lag_seconds: float = 0.0,
        void: bool = False,
    ) -> None:
        put(self, "void", require_flag(void, "void"))
        put(self, "latency_seconds", _checked(latency_seconds, "latency_seconds"))
        put(self, "loop_lag_seconds", _checked(loop_lag_seconds, "loop_lag_seconds"))
        put(self, "failure", None if failure is None else _cleaned(failure))


def _checked(seconds: float, name: str) -> float:
    if type(seconds) is not float:  # what nearly every one is
        require(seconds, int, name, "give the seconds as a float")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{name} must be a finite number of 0 or more")
    return seconds


def _cleaned(failure: Failure) -> Failure:
    """The failure with words that can be shown anywhere."""
    require(failure, Failure, "failure", "write Failure(FailureKind.TRANSIENT, 'Name', 'why')")
    kind = require(failure.kind, FailureKind, "the failure's kind", "write FailureKind.TRANSIENT")
    congestion = require_flag(failure.congestion, "the failure's congestion")
    error_type = reason_of(failure.error_type, MOST_NAME_CHARACTERS)
    return Failure(kind, error_type, reason_of(failure.reason), congestion)


_MOST_ADDRESS_CHARACTERS = 255
"""The longest name of a host; the path of a Unix socket is shorter still."""


_PROPER_NAMES = {"postgresql": "PostgreSQL", "rabbitmq": "RabbitMQ", "redis": "Redis"}


@record
class Target:
    """What a probe asks, named by the OpenTelemetry semantic conventions; never a secret.

    Attributes:
        system: `db.system.name`, such as `redis`.
        address: `server.address`: a host name, or the path of a Unix socket.
        port: `server.port`; `None` for a Unix socket.
        namespace: `db.namespace`: the name or number of the database.
        operation: The name of its spans, such as `PING` or `GET`; that of the system if empty.

    Texts are kept as one printable line each.

    Raises:
        TypeError: When the port is no `int`.
    """

    system: str = "redis"
    address: str = ""
    port: int | None = None
    namespace: str = ""
    operation: str = ""

    @property
    def name(self) -> str:
        """What it is called where a person reads it."""
        return _PROPER_NAMES.get(self.system, self.system) or "the probe"

    def __post_init__(self) -> None:
        for name in ("system", "address", "namespace", "operation"):
            cleaned = reason_of(getattr(self, name), _MOST_ADDRESS_CHARACTERS)
            object.__setattr__(self, name, cleaned)
        if self.port is not None:
            require(self.port, int, "port", "give the number of the port")


class Probe(ABC):
    """Asks whether the thing that the service depends on answers.

    Subclass it and write `attempt`; the rest has defaults that do nothing.

    Attributes:
        overtime_seconds: How much longer than its time an attempt may take before it is cancelled,
            for a probe that keeps its deadline itself and knows when the process was held up.
        connects_per_second: How many new connections what is asked is taken to accept from a whole
            fleet, unless the policy says it.
    """

    overtime_seconds: float = 0.0
    connects_per_second: float = 8000.0

    def prepare(self, policy: Policy) -> None:  # noqa: B027  most probes need none of it
        """Take over what the policy says to a probe; called once, before the first attempt."""

    @abstractmethod
    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Ask once, for at most `timeout_seconds` in total.

        An answer that is wrong, late or missing is a `ProbeResult` with a failure. Exceptions are
        taken as transient failures, and only their type is reported, since their text may hold a
        secret. At most one attempt is under way at a time. It is cancelled when its time is up, or
        the service stops; one that cannot be (a thread needs `abandon_on_cancel=True`) is taken for
        failed until it returns, and delays the end of the service.
        """

    async def changed(self) -> None:
        """Return as soon as a new attempt may end differently from the last one.

        Called after each attempt and cancelled before the next. Typical signs: the connection was
        closed by the other side, or a late answer has arrived. A sign that came before the call
        must not be lost: the call then returns at once. The default never returns.
        """
        await anyio.sleep_forever()

    @property
    def target(self) -> Target:
        """What is being asked, for telemetry."""
        return Target()

    async def aclose(self) -> None:
        """Let go of every connection, at once. Called when the orchestrator is left.

        It may be entered again, and attempts made again: connect anew then.
        """
        await anyio.lowlevel.checkpoint()


@record
class StartupContext:
    """What an observer gets before the first fact.

    Attributes:
        policy: The policy in force.
        target: What the probe asks.
        conditions: The declared conditions, and whether each is required.
        started_at: When `booting` began, in the clock's seconds: the start of the process.
        now_at: The clock's reading when this was made.
        now_unix_nanoseconds: The wall clock's reading at the same moment, to turn `at` into dates.
        enabled: False where the orchestrator is disabled, and its facts are made up.
        after: For each condition that comes after others, their names; `redis` is the probe.
        imports: Whether the time before the orchestrator is entered is that of the imports and the
            set-up of a new process. False in a second start-up, in an interactive interpreter, in a
            process that is more than 60 s old, and in one that was idle for most of its time.
        waits_for: Says what is missing at the time of the call; nothing more once it is stopped.
        targets: What each check asks, by the name of its condition.
    """

    policy: Policy
    target: Target
    conditions: Mapping[str, bool]
    started_at: float
    now_at: float
    now_unix_nanoseconds: int
    enabled: bool = True
    after: Mapping[str, Sequence[str]] = field(default_factory=dict)
    imports: bool = True
    waits_for: Callable[[], Sequence[Missing]] = tuple
    targets: Mapping[str, Target] = field(default_factory=dict)


class KeptStep(StrEnum):
    """What happens inside of a condition that keeps itself."""

    BEGAN = "began"
    """All that it comes after holds, so that it can begin."""

    ATTEMPTED = "attempted"
    """An attempt of a check has ended."""

    STARTED = "started"
    """A task runs for the first time, or since what it gave way to is over."""

    RESTARTED = "restarted"
    """A task that had ended or hung runs again."""

    DOWN = "down"
    """It will not hold again in this process, since a task is not started any more."""


@record
class KeptFact:
    """Something that happened inside of a `Check` or a `Task`.

    Attributes:
        at: When, in monotonic seconds.
        name: The condition's name.
        step: What.
        attempt: How an attempt ended; `None` for every other step.
        reason: Why a task is run again, or not any more; one line, without secrets.
    """

    at: float
    name: str
    step: KeptStep
    attempt: ProbeSucceeded | ProbeFailed | None = None
    reason: str = ""


class Observer:
    """Sees every fact after the machine has taken it. Subclass it and write what you need.

    Observers run on the event loop, one after the other, and must return quickly. What one raises
    is logged once and counted; it gets the next fact all the same, and neither the machine nor the
    other observers are affected. One whose `started` raises is left out.
    """

    def started(self, context: StartupContext) -> None:
        """Called before the first fact, once in each start-up: forget the one before."""

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Called for every fact; `changed` is the transition that it caused, if any."""

    def kept(self, fact: KeptFact) -> None:
        """Called for what happens inside of checks and tasks, in order with the facts.

        Since nothing depends on it, it is delivered with the next fact.
        """

    def stopped(self, at: float) -> None:
        """Called when the orchestrator is left, whatever the reason, with the time of it."""

    async def aclose(self) -> None:
        """Called once after `stopped`, for what takes longer, such as sending; at most 1 s."""
        await anyio.lowlevel.checkpoint()


@runtime_checkable
class KnowsFleet(Protocol):
    """An observer that knows how many instances of the service there are."""

    @property
    def fleet_size(self) -> int | None:
        """How many were alive when that was last known; `None` while it is not."""
        ...


class Clock(Protocol):
    """Where the orchestrator's time comes from."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def started_at(self) -> float:
        """When the process started, in the seconds of `now()`."""
        ...

    def cancel_at(self, at: float) -> AbstractContextManager[anyio.CancelScope, bool]:
        """A cancel scope that is cancelled when `now()` reaches `at` (`math.inf`: never)."""
        ...
