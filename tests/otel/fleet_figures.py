"""A reader and a publisher of a fleet whose figures a test chooses."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.fleet import FleetFigures


@dataclass(eq=False)
class SeenFleet:
    """A reader."""

    service: str = "chat"
    missed: int = 3
    instances: dict[tuple[str, str, str], int] = field(
        default_factory=lambda: {("ready", "2", "alive"): 5, ("ready", "1", "silent"): 1}
    )

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """How many there are."""
        return self.instances


@dataclass(eq=False)
class PublishedFleet:
    """A publisher."""

    figures: FleetFigures = field(default_factory=lambda: FleetFigures(dropped=7, behind=4))
