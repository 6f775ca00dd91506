"""When those who are refused come back: one after the other, as fast as they are let in.

Refusing a WebSocket costs a server about as much as accepting one: 0.7 times as much with
hypercorn, 1.4 times with uvicorn. A crowd that comes back every few seconds can keep a service from
letting anyone in: 5,000 clients every 1 to 3 s are 2,500 refusals a second. So each refused client
gets the next place in a line, which moves at 0.8 times the rate at which clients were let in while
others waited. While the line is short, as it nearly always is, the seconds are drawn as the gate's
option says.

Clients are not recognised: one that comes back too early takes another place. That is why the wait
has an upper limit, and why pages, which cannot read the header, get no place.
"""

import math
from collections.abc import Callable
from random import Random

MOST_SECONDS = 300
"""No client is asked to stay away for longer."""

_SHARE = 0.8
"""The share of that rate that returning clients get, since new ones come as well."""

_ASSUMED_PER_SECOND = 500.0
"""Until it is measured. Most of those who come back by then are only refused again, and refusing
this many leaves a server most of its time to start up."""

_LEAST_PER_SECOND = 1.0
_KNOWN_AFTER_SECONDS = 0.5
_FORGOTTEN_SECONDS = 5.0
_MOST_TICK_SECONDS = 1.0
"""A tick that took longer says more about the machine than about the service."""


class AdmissionRate:
    """How many clients a second are let in while others wait."""

    def __init__(self) -> None:
        self._admitted = self._seconds = 0.0
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget who was let in of late, but not the rate: it is the same service."""
        self._let_in = 0
        self._waited_since: float | None = None

    def let_in(self) -> None:
        """One more was let in."""
        self._let_in += 1

    def tick(self, now: float, *, others_wait: bool) -> None:
        """Count those who were let in since the last tick, if others waited then."""
        if self._waited_since is not None:
            self.count(self._let_in, now - self._waited_since)
        self._let_in = 0
        self._waited_since = now if others_wait else None

    def count(self, admitted: int, seconds: float) -> None:
        """So many were let in within this time, while others waited."""
        self._admitted += admitted
        self._seconds += min(seconds, _MOST_TICK_SECONDS)
        if self._seconds > _FORGOTTEN_SECONDS:
            self._admitted /= 2
            self._seconds /= 2

    @property
    def per_second(self) -> float:
        """The recent rate; an assumed one until it is known."""
        if self._seconds < _KNOWN_AFTER_SECONDS:
            return _ASSUMED_PER_SECOND
        return max(self._admitted / self._seconds, _LEAST_PER_SECOND)


class ReturnLine:
    """Gives those who are refused their places.

    Args:
        rate: How fast the line moves.
        now: Tells the time, in monotonic seconds.
        random: The source of jitter.
    """

    def __init__(self, rate: AdmissionRate, now: Callable[[], float], random: Random) -> None:
        self._rate = rate
        self._now = now
        self._random = random
        self._last_at = -math.inf

    def seconds(self, least: int, most: int) -> int:
        """In how many seconds a client that is refused now is asked to come back.

        Args:
            least: The least where the line is short.
            most: The most there.
        """
        now = self._now()
        place_at = max(self._last_at, now) + 1 / (_SHARE * self._rate.per_second)
        self._last_at = min(place_at, now + MOST_SECONDS)
        ahead = place_at - now
        if ahead <= most:
            return self._random.randint(least, most)
        if ahead > MOST_SECONDS:  # the line is as long as it may be: anywhere in it
            return self._random.randint(min(most, MOST_SECONDS), MOST_SECONDS)
        return math.ceil(ahead)
