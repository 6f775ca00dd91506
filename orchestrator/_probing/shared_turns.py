"""The moments at which steady checks are asked: several together, so that the loop wakes up once.

To wake an idle event loop costs several times what an attempt of a check does. So a check that
answers is asked at a moment of a grid that all checks of a start-up share: the last moment within
its interval, so that no answer gets older than that. Checks with the same interval that once came
together stay together.

The first moment after a change is drawn from the whole interval, out of four to eight. Otherwise
all checks that began together would stay together, and so would all instances that lost a server
together. The start of the grid is random, too, so two instances have no moments in common.
"""

import math
from random import Random

_SPREAD = 1024.0
"""The grid begins at a random moment within so many seconds, far longer than any step."""

_LEAST_SECONDS = 0.001
"""A shorter step brings nothing together."""

_GROUPS = 4
"""The checks of one interval form so many groups, or up to twice as many."""


class SharedTurns:
    """The grid of one start-up.

    Args:
        random: Draws where it begins, and which of its moments come first.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._begin: float | None = None  # drawn when it is first needed

    def every(self, interval_seconds: float, share: float) -> "Turns":
        """The turns of one check.

        Args:
            interval_seconds: The longest time between two.
            share: The part of it by which they may come sooner.
        """
        if self._begin is None:
            self._begin = self._random.random() * _SPREAD
        return Turns(self._random, self._begin, interval_seconds, share)


class Turns:
    """When one check is asked while all is well. See `SharedTurns.every`."""

    __slots__ = ("_begin", "_interval", "_random", "_spread", "_step", "_wide_step")

    def __init__(self, random: Random, begin: float, interval: float, share: float) -> None:
        self._random = random
        self._begin = begin
        self._interval = interval
        self._step = _power_of_two(interval * share)
        self._wide_step = max(self._step, _power_of_two(interval / _GROUPS))
        self._spread = True

    def spread(self) -> None:
        """Draw the next turn from the whole interval."""
        self._spread = True

    def after(self, at: float) -> float:
        """When to ask again after an attempt that ended at this time."""
        if self._spread:
            self._spread = False
            drawn = self._last_before(at + self._interval * self._random.random(), self._wide_step)
            return drawn if drawn >= at else self._last_before(at + self._interval, self._step)
        return self._last_before(at + self._interval, self._step)

    def _last_before(self, at: float, step: float) -> float:
        # Counted from the start of the grid, so that all get exactly the same number.
        return self._begin + math.floor((at - self._begin) / step) * step if step else at


def _power_of_two(most: float) -> float:
    """The greatest one that is not above: so a long step's moments are also a short one's."""
    return math.ldexp(0.5, math.frexp(most)[1]) if most >= _LEAST_SECONDS else 0.0
