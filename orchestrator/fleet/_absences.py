"""Instances that Redis does not know any more: they were swept, unless Redis has lost them."""

from collections.abc import Collection, Mapping

from orchestrator.fleet._wire import FleetState

_MOST_LEASE_SECONDS = 60.0
"""A lease that says it lasts for longer counts as one of this."""


class Absences:
    """Since when instances are not among the states that were read."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def came_back(self, incarnation: str) -> None:
        """Something was read of it."""
        self._since.pop(incarnation, None)

    def swept(
        self, known: Mapping[str, FleetState], present: Collection[str], at: float
    ) -> list[str]:
        """Those of the known ones that have been absent for two of their leases: forget them.

        Args:
            known: The latest state of each incarnation.
            present: The incarnations that Redis knows.
            at: Now, in monotonic seconds.
        """
        for incarnation in [one for one in self._since if one in present]:
            self.came_back(incarnation)
        gone = []
        for incarnation in [one for one in known if one not in present]:
            since = self._since.setdefault(incarnation, at)
            if at - since >= 2 * min(known[incarnation].lease_seconds, _MOST_LEASE_SECONDS):
                del self._since[incarnation]
                gone.append(incarnation)
        return gone
