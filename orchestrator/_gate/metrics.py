"""What a gate counts, and who measures it."""

from collections.abc import Mapping
from typing import Protocol


class GateFigures(Protocol):
    """What a gate has counted since it was made. It may be read at any time and from any thread."""

    @property
    def held(self) -> int:
        """How many requests are held now."""
        ...

    def admissions(self) -> Mapping[str, int]:
        """How many requests had which outcome."""
        ...

    def websocket_closes(self) -> Mapping[int | str, int]:
        """How many WebSockets were closed with which code, or with `application_error`."""
        ...


class GateMetrics:
    """Measures gates. Subclass it and write what you need.

    What a method raises is logged once and counted, and it is still called the next time.
    """

    def watch(self, figures: GateFigures) -> None:
        """Called once by each gate that is given it.

        Reading the figures only when they are exported costs the requests nothing.
        """

    def held_for(self, seconds: float, outcome: str) -> None:
        """Called on the event loop whenever a held request's wait has ended; must be quick.

        The outcomes are those of `GateFigures.admissions`.
        """
