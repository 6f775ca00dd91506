"""The options of every gate, whatever the server."""

import math
from collections.abc import Callable, Mapping
from typing import TypedDict

from orchestrator._gate.metrics import GateMetrics
from orchestrator._hardening.arguments import wrong_type
from orchestrator._ports import Clock


class HoldingOptions(TypedDict, total=False):
    """How a gate holds requests and lets them in.

    Once the service is ready, at least `release_batch` may wait for their turn.

    Attributes:
        hold_seconds: How long a request may wait for ready, 5 if not given; 0 refuses at once.
            Once the service is ready and the queue is moving, it may stay for as long again, and
            for 2 s at least.
        max_held: How many may wait at once, 256 if not given; the next is refused at once.
        limits: How many of them may wait for a path or anything below it, such as
            `{"/chat": 100}`, so that one crowded route leaves room for the others.
        admit_degraded: Admit in `degraded` too.
        release_batch: How many handlers may work at the same time while `ready` is young, 32 if not
            given. Keep it at or below what the application can take at once, such as the size of
            a pool.
        on_admission: Called with the outcome of each request: `admitted`, `refused`, `left`,
            `overflow` or `timed_out`.
        metrics: Measures the gate, such as `orchestrator.otel.OpenTelemetryGateMetrics`.
        clock: Where time comes from; the event loop's if not given.
    """

    hold_seconds: float
    max_held: int
    limits: Mapping[str, int]
    admit_degraded: bool
    release_batch: int
    on_admission: Callable[[str], object] | None
    metrics: GateMetrics | None
    clock: Clock | None


def check_number(name: str, value: float, least: int) -> None:
    """Raise an error that names what is out of range or not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(value, name, "a number", f"give {least} or more")
    if not least <= value < math.inf:
        raise ValueError(f"{name} is {value!r}; it must be a number of {least} or more")
