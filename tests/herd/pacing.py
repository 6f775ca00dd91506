"""When an instance of a simulation asks again: as ours do, and as is usual elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol, cast

from orchestrator._probing.fleet_step import FleetStep
from orchestrator._probing.pacing import Pacer
from states import Failure, FailureKind, Policy, Snapshot, Stage
from tests.herd.servers import Reply

REFUSED = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "refused")
LATE = Failure(FailureKind.TRANSIENT, "TimeoutError", "late", congestion=True)
FULL = Failure(FailureKind.TRANSIENT, "MaxClients", "too many clients", congestion=True)

_FAILURES: dict[Reply | None, Failure] = {
    None: REFUSED,
    Reply.ANSWER: LATE,
    Reply.DROPPED: LATE,
    Reply.FULL: FULL,
}


class Pace(Protocol):
    """The pace of one instance.

    Attributes:
        patience_seconds: How long a connection that was accepted may take for its answer.
    """

    patience_seconds: float

    def delay_seconds(self, at: float, reply: Reply | None) -> float:
        """How long to wait after an attempt that failed at this time.

        Args:
            at: The time.
            reply: What became of the connection; `None` if there was nothing to connect to.
        """
        ...


MakePace = Callable[[int, Random], Pace]
"""Makes the pace of an instance in a fleet of this size."""


class Ours:
    """The pace of the library itself. Only what its machine counts is counted here."""

    def __init__(self, policy: Policy, random: Random, step: FleetStep) -> None:
        self.patience_seconds = policy.answer_patience_seconds
        self._pacer = Pacer(policy, random, step)
        self.stage = Stage.DEGRADED
        self.failures_in_row = self.congested_in_row = 0
        self.grace_left_seconds = self.last_at = 0.0
        self.outage_since: float | None = None
        self.last_failure: Failure | None = None

    def delay_seconds(self, at: float, reply: Reply | None) -> float:
        """How long to wait after an attempt that failed at this time."""
        failure = self.last_failure = _FAILURES[reply]
        self.failures_in_row += 1
        self.congested_in_row = self.congested_in_row + 1 if failure.congestion else 0
        self.last_at = at
        self.outage_since = at if self.outage_since is None else self.outage_since
        # It has all that a pacer asks for.
        return self._pacer.delay_seconds(cast("Snapshot", self))


def ours(per_second: float, known: float = 1.0) -> MakePace:
    """Our pace.

    Args:
        per_second: What the server is taken to accept.
        known: By which factor an instance is wrong about the size of the fleet; 0: it knows none.
    """
    policy = Policy(budget_seconds=1000)

    def make(size: int, random: Random) -> Pace:
        said = max(1, round(size * known))
        return Ours(policy, random, FleetStep(lambda: said, per_second))

    return make


@dataclass(slots=True)
class Usual:
    """A pace as others have it, with a time limit of 1 s for each attempt."""

    next_delay: Callable[["Usual"], float]
    random: Random
    failures: int = 0
    last: float = 0.1
    patience_seconds: float = 1.0

    def delay_seconds(self, _: float, __: Reply | None) -> float:
        """How long to wait after an attempt that failed."""
        self.failures += 1
        self.last = self.next_delay(self)
        return self.last


def _usual(next_delay: Callable[[Usual], float]) -> MakePace:
    return lambda _, random: Usual(next_delay, random)


def _doubled(pace: Usual, most: float) -> float:
    return min(most, 0.1 * 2.0 ** min(pace.failures - 1, 30))


def full_jitter(most: float) -> MakePace:
    """Anything up to a step that is doubled each time."""
    return _usual(lambda pace: pace.random.random() * _doubled(pace, most))


USUAL: dict[str, MakePace] = {
    "every 0.5 s": _usual(lambda _: 0.5),
    "exponential to 10 s": _usual(lambda pace: _doubled(pace, 10.0)),
    "full jitter to 2 s": full_jitter(2.0),
    "full jitter to 10 s": full_jitter(10.0),
    "decorrelated jitter to 10 s": _usual(
        lambda pace: min(10.0, pace.random.uniform(0.1, 3 * pace.last))
    ),
}
"""What clients and libraries do most often."""
