"""What the demo is asked for, and the error that ends it early."""

from dataclasses import dataclass


class DemoError(Exception):
    """The demo cannot go on. The text is one line for a person."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demo is asked for.

    Attributes:
        connections: How many clients connect.
        redis_delay_seconds: How long after the service's process Redis is started.
        settle_seconds: How long the background task needs after Redis answers.
        grace_seconds: The grace of the policy.
        port: Where the service listens; 0 lets the system choose.
        outage: Whether Redis is killed and started again once the service is ready.
        full: Whether the service has checks and tasks, too, which fall in turn.
        traces: Whether the traces are printed, however small the terminal is.
    """

    connections: int
    redis_delay_seconds: float
    settle_seconds: float
    grace_seconds: float
    port: int
    outage: bool
    traces: bool = False
    full: bool = False
