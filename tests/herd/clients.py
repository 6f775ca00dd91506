"""Clients that come back to one instance, in virtual time: when they are let in.

They come within a second of the loss, and are refused until the instance is ready. From then on it
lets in so many a second, and a refusal costs it a part of that. It holds some of those who wait.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from orchestrator._gate.return_line import AdmissionRate, ReturnLine

TICK_SECONDS = 0.01
HELD = 256
HOLD_SECONDS = 10.0
REFUSAL_SECONDS = 0.0009
"""What it costs to refuse one WebSocket: measured with uvicorn."""


@dataclass
class Crowd:
    """How the clients of one instance were let in. Seconds count from when it was ready.

    Attributes:
        waited: When each was let in; sorted. Those that were not are missing.
        refusals_each: How often each was refused.
    """

    waited: list[float]
    refusals_each: float
    size: int

    def within(self, share: float) -> float:
        """When this share of them was in, in seconds; infinite where they were not."""
        at = round(self.size * share) - 1
        return self.waited[at] if at < len(self.waited) else float("inf")


class SetClock:
    """A clock that is set."""

    at = 0.0

    def now(self) -> float:
        """What it was set to."""
        return self.at


Return = Callable[[], int]
"""Draws the seconds of `Retry-After`."""

MakeReturn = Callable[[AdmissionRate, SetClock, Random], Return]


def in_line(rate: AdmissionRate, clock: SetClock, random: Random) -> Return:
    """As the gate does it."""
    line = ReturnLine(rate, clock.now, random)
    return lambda: line.seconds(1, 3)


def within(least: int, most: int) -> MakeReturn:
    """The same for everybody."""
    return lambda _, __, random: lambda: random.randint(least, most)


def simulate(
    size: int,
    per_second: float,
    make: MakeReturn,
    *,
    own_seconds: float = 1.0,
    outage_seconds: float = 20.0,
    most_seconds: float = 400.0,
    seed: int = 1,
) -> Crowd:
    """Let them come back until all are in.

    Args:
        size: How many clients there are.
        per_second: How many can be let in.
        make: Makes what says when to come back.
        own_seconds: How much each adds of its own, at random.
        outage_seconds: How long the instance refuses everybody.
        most_seconds: When to give up.
        seed: Of all chances.
    """
    random, clock, rate = Random(seed), SetClock(), AdmissionRate()
    seconds = make(rate, clock, random)
    arrivals: defaultdict[int, int] = defaultdict(int)
    for _ in range(size):
        arrivals[int(random.random() / TICK_SECONDS)] += 1
    held: deque[float] = deque()
    waited: list[float] = []
    refusals, capacity = 0, 0.0

    def refuse(count: int) -> None:
        nonlocal refusals
        refusals += count
        for _ in range(count):
            back_at = clock.at + seconds() + own_seconds * random.random()
            arrivals[max(tick + 1, int(back_at / TICK_SECONDS))] += 1

    for tick in range(int((outage_seconds + most_seconds) / TICK_SECONDS)):
        clock.at = tick * TICK_SECONDS
        came = arrivals.pop(tick, 0)
        capacity = min(capacity + per_second * TICK_SECONDS, per_second * 0.1)
        if clock.at < outage_seconds:
            refuse(came)
            continue
        others_waited = bool(held)
        room = min(came, HELD - len(held))
        held.extend([clock.at] * room)
        capacity -= REFUSAL_SECONDS * per_second * (came - room)
        refuse(came - room)
        late = 0
        while held and held[0] < clock.at - HOLD_SECONDS:
            held.popleft()
            late += 1
        refuse(late)
        admitted = 0
        while held and capacity >= 1:
            held.popleft()
            capacity -= 1
            admitted += 1
        waited += [clock.at - outage_seconds] * admitted
        if others_waited:
            rate.count(admitted, TICK_SECONDS)
        if len(waited) == size:
            break
    return Crowd(waited, refusals / size, size)
