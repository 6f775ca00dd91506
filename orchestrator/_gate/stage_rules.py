"""Whom a gate lets in or refuses by the state of the start-up, whatever the server."""

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_verdict import recovering
from states import Stage


class StageRules:
    """The rules of one gate.

    Args:
        startup: The orchestrator.
        admit_degraded: Whether to admit in `degraded`, too.
    """

    def __init__(self, startup: Orchestrator, *, admit_degraded: bool) -> None:
        self.startup: Orchestrator = startup
        self._admit_degraded = admit_degraded

    def is_open(self) -> bool:
        """Whether requests are let in: by the stage as it is now, not by the last event seen."""
        startup = self.startup
        if startup.ready or not startup.enabled:
            return True
        if not self._admit_degraded or self._ends():
            return False
        return startup.stage is Stage.DEGRADED or recovering(startup)

    def refuses_at_once(self) -> bool:
        """Whether no one is held, since waiting won't help."""
        startup = self.startup
        if self._ends() or self._is_not_entered():
            return True
        if startup.draining and not self.is_open():
            return True  # its stage changes no more
        return startup.stage is Stage.DEGRADED and not self._admit_degraded

    def _ends(self) -> bool:
        return self.startup.refuses or self.startup.ended is not None

    def _is_not_entered(self) -> bool:
        """Whether nothing here enters the orchestrator: then holding would be of no use."""
        one = self.startup
        waits = one.stage is Stage.BOOTING or one.ended is not None
        return waits and one.enabled and one.never_ran_here
