"""Facts: the only inputs of the state machine.

A fact says what happened and when. `at` is in seconds of one monotonic clock, the same for all
facts of a machine, and never runs backwards from one fact to the next. Facts are frozen: they
travel on into events, spans and pages as they are.
"""

from enum import StrEnum

from states._records import put, record


class FailureKind(StrEnum):
    """Whether asking again soon can help."""

    TRANSIENT = "transient"
    """The server may come back by itself. It refuses, is late, or is still loading."""

    PERMANENT = "permanent"
    """Something has to be changed first, such as a wrong password or a wrong address."""


@record
class Failure:
    """Why an attempt failed, in words fit for a person and without any secret.

    Attributes:
        kind: Whether asking again soon can help.
        error_type: A short stable name with few distinct values, such as `ConnectionRefusedError`;
            it becomes the `error.type` of spans and metrics.
        reason: One line for a person. Never a URL with credentials, a password or a token.
        congestion: Whether the server suffers from too many clients, so that attempts should be
            spaced out instead of being repeated quickly.
    """

    kind: FailureKind
    error_type: str
    reason: str
    congestion: bool = False

    def __init__(
        self, kind: FailureKind, error_type: str, reason: str, congestion: bool = False
    ) -> None:
        put(self, "kind", kind)
        put(self, "error_type", error_type)
        put(self, "reason", reason)
        put(self, "congestion", congestion)


@record
class BootFinished:
    """The process has finished its imports and set-up, and the orchestrator has been entered.

    Attributes:
        at: When, in monotonic seconds.
    """

    at: float

    def __init__(self, at: float) -> None:
        put(self, "at", at)


@record
class ProbeSucceeded:
    """An attempt got the right answer from Redis within its deadline.

    Attributes:
        at: When the result was taken, in monotonic seconds.
        latency_seconds: How long Redis took, measured where the event loop's lag cannot add to it.
        loop_lag_seconds: How late the event loop was: for the attempt's beginning, or for its
            result.
    """

    at: float
    latency_seconds: float
    loop_lag_seconds: float = 0.0

    def __init__(self, at: float, latency_seconds: float, loop_lag_seconds: float = 0.0) -> None:
        put(self, "at", at)
        put(self, "latency_seconds", latency_seconds)
        put(self, "loop_lag_seconds", loop_lag_seconds)


@record
class ProbeFailed:
    """An attempt ended without the right answer.

    Attributes:
        at: When the result was taken, in monotonic seconds.
        latency_seconds: How long the attempt took, measured where the event loop's lag cannot add
            to it.
        failure: Why.
        loop_lag_seconds: How late the event loop was: for the attempt's beginning, or for its
            result.
    """

    at: float
    latency_seconds: float
    failure: Failure
    loop_lag_seconds: float = 0.0

    def __init__(
        self, at: float, latency_seconds: float, failure: Failure, loop_lag_seconds: float = 0.0
    ) -> None:
        put(self, "at", at)
        put(self, "latency_seconds", latency_seconds)
        put(self, "failure", failure)
        put(self, "loop_lag_seconds", loop_lag_seconds)


@record
class ConditionChanged:
    """A declared condition became true or false, or gave a new reason.

    Attributes:
        at: When, in monotonic seconds.
        name: The name under which the condition was declared.
        satisfied: Whether it holds now.
        reason: One line for a person; empty where none was given. Never a secret.
    """

    at: float
    name: str
    satisfied: bool
    reason: str = ""

    def __init__(self, at: float, name: str, satisfied: bool, reason: str = "") -> None:
        put(self, "at", at)
        put(self, "name", name)
        put(self, "satisfied", satisfied)
        put(self, "reason", reason)


@record
class TimerFired:
    """The time that the machine asked for in `wake_at` has come.

    Attributes:
        at: The time now, in monotonic seconds. It may be later than what was asked for; how much
            later tells the machine whether the event loop really ran.
    """

    at: float

    def __init__(self, at: float) -> None:
        put(self, "at", at)


@record
class DrainBegan:
    """The service has begun to end its work: it goes on for a while, and then takes no more.

    From here on facts only count, and the stage stays as it is: what falls while a service ends is
    no outage.

    Attributes:
        at: When, in monotonic seconds.
        reason: What began it, in a few words for a person, such as `SIGTERM`. Never a secret.
    """

    at: float
    reason: str = ""

    def __init__(self, at: float, reason: str = "") -> None:
        put(self, "at", at)
        put(self, "reason", reason)


Fact = BootFinished | ProbeSucceeded | ProbeFailed | ConditionChanged | TimerFired | DrainBegan
"""Every fact that a machine can be fed."""
