"""How long a step between attempts must be, so that a whole fleet does not ask too much.

N instances that ask once in each step open N / step connections a second. A server that is back
takes so many; what comes beyond that waits, times out and comes again, for no one's benefit. So
the step is as long as it takes the fleet at 0.8 of what the server is taken to accept. That figure
is a guess, and congestion corrects it: it lengthens this step.
"""

from collections.abc import Callable, Iterable

from orchestrator._hardening.guard import CallGuard
from orchestrator._ports import KnowsFleet, Observer

_SHARE = 0.8
"""So much of what the server accepts is asked for, since arrivals are never quite even."""

_MOST_SIZE = 10**9
"""Larger numbers are no different, and may be too large for a float."""

MOST_STEP_SECONDS = 10.0
"""Whatever is said of the size of the fleet, no server is asked less often for it."""


class FleetSize:
    """How many instances there are, as far as it is known.

    Args:
        least: How many there are at least.
        observers: Those that know the size are asked each time.
    """

    def __init__(self, least: int = 1, observers: Iterable[Observer] = ()) -> None:
        self._least = least
        self._observers = [(one, CallGuard("observer", one)) for one in observers]

    def __call__(self) -> int:
        """The size now."""
        size = self._least
        for observer, guard in self._observers:
            try:
                said = observer.fleet_size if isinstance(observer, KnowsFleet) else None
            except BaseException as error:  # no observer can break the pace
                guard.caught(error)
            else:
                size = max(size, said) if type(said) is int else size
        return size


class FleetStep:
    """The least step between two attempts of one instance.

    Args:
        size: Tells how many instances there are.
        connects_per_second: How many new connections the server is taken to accept.
    """

    def __init__(self, size: Callable[[], int], connects_per_second: float) -> None:
        self._size = size
        self._per_second = connects_per_second * _SHARE

    def seconds(self) -> float:
        """The step as it is now; 0 for an instance that is alone."""
        size = min(self._size(), _MOST_SIZE)
        return min(size / self._per_second, MOST_STEP_SECONDS) if size > 1 else 0.0


ALONE = FleetStep(lambda: 1, 1.0)
"""The step of an instance without a fleet."""
