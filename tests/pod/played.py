"""Workers that are told of, where there are none."""

from collections.abc import Mapping

from orchestrator import Orchestrator
from orchestrator._gate.health_answers import Verdicts
from orchestrator._gate.health_verdict import HealthVerdict


class PlayedWorkers:
    """What a page shows of a pod.

    Args:
        told: The details.
    """

    def __init__(self, told: Mapping[str, object]) -> None:
        self._told = told

    def join(self, startup: Orchestrator, verdict: Verdicts) -> None:
        raise AssertionError("a page takes no part")

    def verdict(self, path: str, own: HealthVerdict) -> tuple[HealthVerdict, str]:
        raise AssertionError("a page asks for details only")

    def details(self) -> Mapping[str, object]:
        return self._told
