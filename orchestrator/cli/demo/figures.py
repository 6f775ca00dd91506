"""What a run of the demo measured, whether that is what was promised, and the file of figures."""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from orchestrator import __version__
from states import Stage

NORMAL_CLOSURE = 1000
SERVICE_RESTART = 1012
INTERNAL_ERROR = 1011
ABNORMAL_CLOSURE = 1006
"""Close codes of WebSocket (RFC 6455, and IANA's registry of them)."""

DEGRADED_WITHIN_SECONDS = 0.5
"""How soon after Redis is killed the service must be degraded."""

RECOVERED_WITHIN_SECONDS = 1.0
"""How soon after Redis answers again the service must be in grace, and then ready after it."""

_TO_READY = (Stage.PROBING_REDIS, Stage.GRACE, Stage.READY)
_OUTAGE = (Stage.DEGRADED, Stage.GRACE, Stage.READY)

STALL_LIMIT_SECONDS = 0.1
"""The longest stall of the event loop that is no remark worth."""


@dataclass(frozen=True, slots=True)
class StageFigure:
    """A stage that was entered.

    Attributes:
        stage: Its name.
        at_seconds: When, after the start of the service's process.
        cause: Why, in words.
    """

    stage: str
    at_seconds: float
    cause: str


@dataclass(slots=True)
class RunFigures:
    """What one run measured. `None` is what that run has no such figure for.

    Attributes:
        gate: How early clients were protected: `gate`, `none` or `sleep`.
        clients: How many clients connected.
        served: How many got their echo and closed normally.
        closes: How many connections ended with each close code.
        refused: How many refusals (HTTP 503) there were.
        errors: How many clients failed otherwise, by what they met.
        longest_handshake_seconds: The longest that a client was held.
        max_loop_stall_seconds: The longest time for which the service's event loop ran nothing.
        port_open_seconds: When the port opened, after the start of the service's process.
        redis_up_seconds: When Redis first answered, the same.
        listener_up_seconds: When the background task was up, the same.
        stages: Every stage in order.
        redis_up_to_ready_seconds: From the first answer of Redis, or from the end of booting where
            that was later, to ready.
        kill_to_degraded_seconds: From the end of Redis to degraded.
        restart_to_grace_seconds: From the first answer of the new Redis to grace.
        restart_to_ready_seconds: The same, to ready.
        served_after_recovery: Whether a client that came after the recovery was served.
        drained: How many clients that stayed to the end were closed with each close code.
        trace_id: The start-up's trace.
    """

    gate: str
    clients: int
    served: int = 0
    closes: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    longest_handshake_seconds: float = 0.0
    max_loop_stall_seconds: float = 0.0
    port_open_seconds: float | None = None
    redis_up_seconds: float | None = None
    listener_up_seconds: float | None = None
    stages: list[StageFigure] = field(default_factory=list)
    redis_up_to_ready_seconds: float | None = None
    kill_to_degraded_seconds: float | None = None
    restart_to_grace_seconds: float | None = None
    restart_to_ready_seconds: float | None = None
    served_after_recovery: bool | None = None
    drained: dict[str, int] | None = None
    trace_id: str | None = None

    @property
    def stalled(self) -> bool:
        """Whether the event loop once ran nothing for longer than it should."""
        return self.max_loop_stall_seconds >= STALL_LIMIT_SECONDS

    def closed_with(self, code: int) -> int:
        """How many connections ended with this close code."""
        return self.closes.get(str(code), 0)


def shortcomings(run: RunFigures, *, outage: bool, grace_seconds: float) -> list[str]:
    """What a gated run did not keep of what is promised; empty when all was kept.

    Args:
        run: The run with the gate.
        outage: Whether Redis was killed and started again in it.
        grace_seconds: The grace of its policy.
    """
    wrong = [
        f"{count} connections were closed with {code}"
        for code in (INTERNAL_ERROR, ABNORMAL_CLOSURE)
        if (count := run.closed_with(code))
    ]
    if run.served != run.clients:
        failed = ", ".join(f"{count} x {what}" for what, count in run.errors.items())
        wrong.append(
            f"only {run.served} of {run.clients} clients were served"
            + (f" ({failed})" if failed else "")
        )
    expected = [Stage.BOOTING, *_TO_READY, *(_OUTAGE if outage else ())]
    seen = [figure.stage for figure in run.stages]
    if not _in_order(expected, seen):
        wrong.append(f"the stages were {', '.join(seen)}; expected {', '.join(expected)}")
    wrong += [
        f"{count} clients that stayed were closed with {code} at the end"
        for code, count in (run.drained or {}).items()
        if code != str(SERVICE_RESTART)
    ]
    if outage:
        wrong += _outage_shortcomings(run, grace_seconds)
    return wrong


def _outage_shortcomings(run: RunFigures, grace_seconds: float) -> list[str]:
    limits = [
        (run.kill_to_degraded_seconds, DEGRADED_WITHIN_SECONDS, "degraded after Redis was killed"),
        (run.restart_to_grace_seconds, RECOVERED_WITHIN_SECONDS, "grace after Redis was back"),
        (
            run.restart_to_ready_seconds,
            RECOVERED_WITHIN_SECONDS + grace_seconds,
            "ready after Redis was back",
        ),
    ]
    wrong = [
        f"{what}: {seconds:.3f} s, more than {limit:g} s"
        for seconds, limit, what in limits
        if seconds is not None and seconds > limit
    ]
    if run.served_after_recovery is False:
        wrong.append("a client that came after the recovery was not served")
    return wrong


def _in_order(expected: list[Stage], seen: list[str]) -> bool:
    """Whether all of `expected` are in `seen`, in their order; others may lie between."""
    rest = iter(seen)
    return all(stage in rest for stage in expected)


class FiguresFile:
    """The file that the figures are written to, whole or not at all.

    Args:
        path: Where. An existing file is replaced.

    Raises:
        OSError: When it cannot be written; better now than after the run.
    """

    def __init__(self, path: Path) -> None:
        # A link is written through, not replaced.
        self._path = path.resolve()
        if self._path.exists() and not self._path.is_file():
            raise OSError("not a regular file")
        self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        self._temporary.touch(exist_ok=False)
        self._temporary.unlink()

    def write(self, runs: list[RunFigures], shortcomings: list[str]) -> None:
        """Write the figures of all runs.

        Raises:
            OSError: When that fails; what was there before is still there then.
        """
        content = {
            "version": __version__,
            "passed": not shortcomings,
            "shortcomings": shortcomings,
            "runs": [asdict(run) for run in runs],
        }
        try:
            self._temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            self._temporary.replace(self._path)
        finally:
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)
