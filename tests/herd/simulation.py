"""A fleet that waits for one server, in virtual time: when each instance is back."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from tests.herd.pacing import MakePace, Pace
from tests.herd.servers import Reply, Server

ATTEMPT_SECONDS = 1.0
"""The time limit of each attempt, for everybody."""

_LEAST_SECONDS = 0.001


@dataclass(slots=True)
class Instance:
    """One member of the fleet.

    Attributes:
        pace: When it asks again.
        accepted: Until when it waits for the answer on a connection that was accepted, and when
            that answer comes; `None` without such a connection.
    """

    pace: Pace
    accepted: tuple[float, float] | None = None

    def attempt(self, at: float, server: Server | None) -> tuple[float, bool]:
        """Ask at this time: when the instance is in, or when it asks again.

        Args:
            at: The time.
            server: What it asks; `None` while there is nothing to connect to.
        """
        if server is None:
            return self._again(at, None), False
        if self.accepted is None:
            reply, reply_at = server.connect(at)
            if reply is Reply.FULL and reply_at <= at + ATTEMPT_SECONDS:
                return self._again(reply_at, reply), False
            if reply is not Reply.ANSWER:
                return self._again(at + ATTEMPT_SECONDS, Reply.DROPPED), False
            self.accepted = at + max(ATTEMPT_SECONDS, self.pace.patience_seconds), reply_at
        given_up_at, answer_at = self.accepted
        over_at = at + ATTEMPT_SECONDS
        if answer_at <= over_at:
            return answer_at, True
        again_at = self._again(over_at, Reply.ANSWER)
        if answer_at <= min(again_at, given_up_at):
            return answer_at, True  # which ends the pause
        if again_at >= given_up_at:
            self.accepted = None
        return again_at, False

    def _again(self, at: float, reply: Reply | None) -> float:
        return at + max(self.pace.delay_seconds(at, reply), _LEAST_SECONDS)


@dataclass
class Return:
    """How a fleet came back. Seconds count from the return of the server.

    Attributes:
        size: How many instances there are.
        back: When each that is back had its answer; sorted.
        knocks: How many connections were tried in each tenth of a second.
        outage_knocks: How many in the last second before the return.
    """

    size: int
    back: Sequence[float] = ()
    knocks: Counter[int] = field(default_factory=Counter)
    outage_knocks: int = 0

    def within(self, share: float) -> float:
        """When this share of the instances was back, in seconds; infinite where they were not."""
        at = round(self.size * share) - 1
        return self.back[at] if at < len(self.back) else float("inf")

    @property
    def knocks_each(self) -> float:
        """How many connections an instance tried after the return."""
        return sum(self.knocks.values()) / self.size

    @property
    def most_per_second(self) -> int:
        """The most connections that were tried in a tenth of a second, for a second."""
        return 10 * max(self.knocks.values(), default=0)


def simulate(
    size: int,
    server: Server,
    make: MakePace,
    *,
    seed: int = 1,
    outage_seconds: float = 5.0,
    most_seconds: float = 120.0,
) -> Return:
    """Let a fleet lose its server within a second, and find it again after the outage."""
    random, order = Random(seed), count()
    due = [(random.random(), next(order), Instance(make(size, random))) for _ in range(size)]
    heapq.heapify(due)
    found, back = Return(size), list[float]()
    while due and due[0][0] < outage_seconds + most_seconds:
        at, _, instance = due[0]
        after = at - outage_seconds
        if instance.accepted is None:
            if after >= 0:
                found.knocks[int(after * 10)] += 1
            elif after >= -1:
                found.outage_knocks += 1
        next_at, is_in = instance.attempt(at, server if after >= 0 else None)
        if is_in:
            heapq.heappop(due)
            back.append(next_at - outage_seconds)
        else:
            heapq.heapreplace(due, (next_at, next(order), instance))
    found.back = sorted(back)
    return found
