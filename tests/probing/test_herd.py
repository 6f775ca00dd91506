"""A fleet that waits for one Redis, in virtual time: everybody comes back as soon as can be.

The pace is the real one. The server is a queue: it accepts every connection at once and answers so
many a second, one after the other, whether the client still waits for it or not.
"""

import heapq
from dataclasses import dataclass
from itertools import count
from random import Random

import pytest

from orchestrator._probing.pacing import Pacer
from states import BootFinished, Failure, FailureKind, Policy, ProbeFailed, StartupMachine

pytestmark = pytest.mark.long

REFUSED = Failure(FailureKind.TRANSIENT, "ConnectionRefusedError", "refused")
SLOW = Failure(FailureKind.TRANSIENT, "TimeoutError", "TLS", congestion=True)

RSA_4096 = 291.0
"""Handshakes a second that one core does: measured, as the next one."""

P_256 = 2900.0


@dataclass
class Server:
    """Answers connections in their order, each of which takes as long."""

    per_second: float
    up_at: float
    free_at: float = 0.0
    answered: int = 0

    def accept(self, at: float) -> float:
        """When a connection that is opened at this time will be answered."""
        self.free_at = max(self.free_at, at) + 1 / self.per_second
        self.answered += 1
        return self.free_at


@dataclass
class Connection:
    """An accepted connection."""

    opened_at: float
    answered_at: float


class Instance:
    """One member of the fleet, as `RedisProbe` and the driver make it."""

    def __init__(self, policy: Policy, random: Random) -> None:
        self.policy = policy
        self.machine = StartupMachine(policy)
        self.machine.receive(BootFinished(0.0))
        self.pacer = Pacer(policy, random)
        self.connection: Connection | None = None

    def fails(self, at: float, failure: Failure) -> float:
        """An attempt has failed; when the next one begins."""
        self.machine.receive(ProbeFailed(at, 0.0, failure))
        return at + max(self.pacer.delay_seconds(self.machine.snapshot), 1e-6)

    def attempt(self, at: float, server: Server) -> tuple[float, bool]:
        """Ask at this time: when the instance is in, or when it asks again."""
        if at < server.up_at:
            return self.fails(at, REFUSED), False
        if self.connection is None:
            self.connection = Connection(at, server.accept(at))
        connection, over_at = self.connection, at + self.policy.attempt_timeout_seconds
        given_up_at = max(connection.opened_at + self.policy.answer_patience_seconds, over_at)
        if connection.answered_at <= over_at:
            return connection.answered_at, True
        again_at = self.fails(over_at, SLOW)
        if connection.answered_at <= min(again_at, given_up_at):
            return connection.answered_at, True  # `changed` says so
        if again_at >= given_up_at:
            self.connection = None
        return again_at, False


def returns(
    number: int, per_second: float, policy: Policy, outage_seconds: float = 5.0, seed: int = 1
) -> tuple[list[float], float]:
    """When each was back, in seconds after the server; and how many connections each cost."""
    server = Server(per_second, outage_seconds)
    order = count()
    starts = Random(seed)
    events = [
        (starts.random(), next(order), Instance(policy, Random(seed * 10_000 + n)))
        for n in range(number)
    ]
    heapq.heapify(events)
    back: list[float] = []
    while events and (event := heapq.heappop(events))[0] < outage_seconds + 60:
        at, _, instance = event
        next_at, is_in = instance.attempt(at, server)
        if is_in:
            back.append(next_at - outage_seconds)
        else:
            heapq.heappush(events, (next_at, next(order), instance))
    return sorted(back), server.answered / number


PATIENT = Policy(budget_seconds=1000)
HASTY = Policy(budget_seconds=1000, answer_patience_seconds=0.0)


@pytest.mark.parametrize(
    ("number", "per_second", "outage_seconds"),
    [
        (1, RSA_4096, 5.0),
        (60, RSA_4096, 45.0),
        (300, RSA_4096, 5.0),
        (300, P_256, 5.0),
        (1000, RSA_4096, 0.5),
        (1000, RSA_4096, 3.0),
    ],
)
def test_a_fleet_is_back_within_twice_what_the_server_can_do(
    number: int, per_second: float, outage_seconds: float
) -> None:
    back, connections = returns(number, per_second, PATIENT, outage_seconds)
    assert len(back) == number, "nobody is left out"
    # A small fleet waits for its next attempt, which no server can hasten.
    step = max(PATIENT.retry_steady_seconds, outage_seconds * PATIENT.retry_outage_fraction)
    ideal = number / per_second + step * (1 + PATIENT.retry_jitter)
    assert back[round(0.99 * number) - 1] <= 2 * ideal
    assert connections == 1, "no handshake was made for nobody"


def test_without_patience_the_server_works_for_nobody_most_of_the_time() -> None:
    back, connections = returns(600, RSA_4096, HASTY, 2.0)
    patient, _ = returns(600, RSA_4096, PATIENT, 2.0)
    assert connections > 1.5
    assert len(back) < 600 or back[-1] > 1.2 * patient[-1]


def test_a_fleet_beyond_the_patience_comes_back_too() -> None:
    # The last in the queue would wait for 15 s. Who has given up must not spoil it for the others.
    back, connections = returns(450, 30.0, PATIENT, 2.0)
    assert len(back) == 450
    assert connections < 3
