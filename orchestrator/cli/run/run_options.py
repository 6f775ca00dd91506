"""The options of `run`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.cli._shell.errors import UserError


class Start(StrEnum):
    """When CMD is started."""

    WHEN_READY = "when-ready"
    AT_ONCE = "at-once"


def silence_of(child_ready: str) -> float:
    """How many seconds a child may be silent before it counts as one that never reports.

    Raises:
        UserError: When it is neither a word nor a number.
    """
    known = {"started": 0.0, "reported": math.inf}
    try:
        seconds = known[child_ready] if child_ready in known else float(child_ready)
    except ValueError:
        seconds = math.nan
    if not seconds >= 0:
        wanted = "started, reported or a number of seconds"
        raise UserError(f"--child-ready is {child_ready}; it must be {wanted}")
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `run` is given.

    Attributes:
        command: The program and its arguments.
        host: The address of the health endpoints; empty for all of them.
        port: Their port; 0 takes a free one.
        start: When CMD is started.
        exit_when_degraded: End when the start-up fails before CMD was started.
        drain_when_degraded: Fail `/readyz` in outages after the start-up.
        details: Let the endpoints tell what is waited for, and the last failure; and serve the
            status page.
        allowed_hosts: The hosts that may see details; all if not given.
        subreaper: Inherit orphans without being process 1.
        account: Log where the start went.
        child_silent_seconds: How long a child may report nothing before it counts as ready.
    """

    command: Sequence[str]
    host: str = ""
    port: int = 8081
    start: Start = Start.WHEN_READY
    exit_when_degraded: bool = False
    drain_when_degraded: bool = False
    details: bool = False
    allowed_hosts: Sequence[str] | None = None
    subreaper: bool = False
    account: bool = False
    child_silent_seconds: float = 0.0
