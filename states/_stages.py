"""The five stages of a service's start-up."""

from enum import StrEnum


class Stage(StrEnum):
    """Where a service is in its life; exactly one at any time.

    The values are stable: they appear in spans, metrics, health bodies and on the command line.
    """

    BOOTING = "booting"
    """From the start of the process until the orchestrator is entered, for imports and set-up."""

    PROBING_REDIS = "probing_redis"
    """Redis is being asked, and has not answered yet."""

    GRACE = "grace"
    """Redis answers; it must go on answering, and the conditions must hold, before `ready`."""

    READY = "ready"
    """Redis answers, every required condition holds, and clients are welcome."""

    DEGRADED = "degraded"
    """Redis or a required condition is missing. The way back leads through `grace`."""
