"""What is known of a run while it goes on, for whoever shows it."""

import time
from dataclasses import dataclass, field

from orchestrator.cli.demo.clients import ClientCounts
from orchestrator.cli.demo.reports import Protection, Status


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

    gate: Protection
    tally: ClientCounts
    started_at: float = field(default_factory=time.monotonic)
    status: Status | None = None
    stages: list[tuple[str, float]] = field(default_factory=list)
    redis_up: bool = False
