"""How long the step between attempts must be, so that a fleet does not overload a server.

N instances that ask once in each step open N / step connections a second. A server that has come
back accepts only so many; any more wait, time out and try again, which helps no one. So the step is
the time that the fleet needs at 0.8 of the rate that the server is assumed to accept. That figure
is a guess, and congestion corrects it: it lengthens this step.
"""

from collections.abc import Callable, Iterable

from orchestrator._hardening.guard import CallGuard
from orchestrator._ports import KnowsFleet, Observer

_SHARE = 0.8
"""The share of the server's rate that is used, since arrivals are never quite even."""

_MOST_SIZE = 10**9
"""Larger fleets make no difference, and may be too large for a float."""

MOST_STEP_SECONDS = 10.0
"""However large the fleet is said to be, no step is longer."""


class FleetSize:
    """How many instances there are, as far as is known.

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
        connects_per_second: How many new connections the server is assumed to accept.
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
