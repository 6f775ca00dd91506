"""What is known of a run while it goes on, for whoever shows it."""

import time
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.cli.demo.clients import Tally
from orchestrator.cli.demo.reports import Gate, Status


@dataclass(slots=True)
class Live:
    """A run as it stands.

    Attributes:
        gate: How early clients are protected.
        tally: What became of the clients so far.
        started_at: When the service's process was started, in monotonic seconds.
        status: The service's last report of itself; `None` before the first.
        stages: Each stage that was entered, and when, in monotonic seconds.
        redis_up: Whether Redis answers, as the demo knows it.
    """

    gate: Gate
    tally: Tally
    started_at: float = field(default_factory=time.monotonic)
    status: Status | None = None
    stages: list[tuple[str, float]] = field(default_factory=list)
    redis_up: bool = False


class View(Protocol):
    """Shows a run while it goes on."""

    def begin(self, live: Live, title: str) -> None:
        """A run begins; `live` is kept up to date until `end`."""
        ...

    def say(self, at: float, text: str, style: str = "") -> None:
        """Something happened.

        Args:
            at: When, in monotonic seconds.
            text: One line.
            style: What kind of line it is: a stage's name, `good`, `bad`, or nothing.
        """
        ...

    def refresh(self) -> None:
        """Show `live` as it is now."""
        ...

    def end(self) -> None:
        """The run has ended, or was broken off."""
        ...
