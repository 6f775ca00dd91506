"""How many instances are alive, as far as one of them can know. Pure."""

import math


class LivingCount:
    """The last count for which every living instance had time to renew its lease.

    Attributes:
        size: How many instances were alive at the last beat; `None` before the first. Where their
            leases were lost or have ended, since Redis was away, it is how many there were before,
            until all have had the time to be back.
    """

    def __init__(self) -> None:
        self.size: int | None = None
        self._right_at = -math.inf

    def is_right(self, now: float) -> bool:
        """Whether all who live have had the time to renew their leases."""
        return now >= self._right_at

    def wait(self, now: float, seconds: float) -> None:
        """Leases were lost, or may have ended: so long some may be missing."""
        self._right_at = now + seconds

    def take(self, alive: int, now: float) -> None:
        """So many have a lease."""
        self.size = alive if self.is_right(now) else max(self.size or 0, alive)
