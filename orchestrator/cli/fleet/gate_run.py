"""`fleet --until-ready`: wait until a new version is ready, within a time."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from orchestrator.cli._shell.exit_codes import BUDGET_SPENT, FAILED, OK, PERMANENT, UNREACHABLE
from orchestrator.fleet._deploy_gate import DeployGate, DeployOutcome, DeployStanding
from orchestrator.fleet._news import Contact, FleetNews, Instance
from states import Failure

_LOOK_SECONDS = 1.0


class Followed(Protocol):
    """What the gate looks at; `Following` is one."""

    instances: Mapping[str, Instance]
    failure: Failure | None
    reached: bool | None
    was_reached: bool
    known_at: float

    @property
    def is_hopeless(self) -> bool:
        """Whether Redis can't be asked, and waiting won't help."""
        ...

    def news(self, timeout_seconds: float) -> Collection[FleetNews]:
        """What is new; none if nothing is, within the time."""
        ...

    def now(self) -> float:
        """Monotonic seconds."""
        ...


@dataclass(frozen=True, slots=True)
class GateResult:
    """How the gate decided.

    Attributes:
        outcome: How.
        gate: The gate.
        elapsed_seconds: How long it took.
        redis: Why Redis does not answer; empty if it does.
    """

    outcome: DeployOutcome
    gate: DeployGate
    elapsed_seconds: float
    redis: str = ""

    @property
    def status(self) -> int:
        """The exit status."""
        return {
            DeployOutcome.PASSED: OK,
            DeployOutcome.FAILED: FAILED,
            DeployOutcome.PERMANENT_FAILURE: PERMANENT,
            DeployOutcome.TIMED_OUT: BUDGET_SPENT,
            DeployOutcome.UNREACHABLE: UNREACHABLE,
        }[self.outcome]

    @property
    def lines(self) -> list[str]:
        """What to say of it: one line, and one for each instance that is in the way."""
        gate, standing = self.gate, self.gate.standing
        head = f"{standing.ready} of {gate.wanted} instances of {gate.version} are ready"
        if self.outcome is DeployOutcome.UNREACHABLE:
            return [self.redis or "Redis did not answer in time"]
        lines = [f"{head}, after {self.elapsed_seconds:.1f} s"]
        if self.outcome is DeployOutcome.TIMED_OUT:
            lines = [f"the time is up after {self.elapsed_seconds:.1f} s: {head}"]
            lines += [f"{self.redis}: the last known is old"] if self.redis else []
        elif self.outcome is not DeployOutcome.PASSED:
            lines = [f"{gate.version} can't get ready: {head}"]
        if not standing.was_seen:
            lines.append(f"no instance of {gate.version} was ever seen: is the version right?")
        if self.outcome is not DeployOutcome.PASSED:
            lines += standing.waits_for
        return lines + [f"still there: {old}" for old in standing.old]

    def as_json(self) -> Mapping[str, object]:
        """For `--json`."""
        gate, standing = self.gate, self.gate.standing
        return {
            "outcome": self.outcome,
            "exit_status": self.status,
            "version": gate.version,
            "wanted": gate.wanted,
            "ready": standing.ready,
            "ready_for_long": standing.steady,
            "was_seen": standing.was_seen,
            "waits_for": standing.waits_for,
            "still_there": standing.old,
            "redis": self.redis,
            "elapsed_seconds": round(self.elapsed_seconds, 3),
        }


def run_gate(
    following: Followed,
    gate: DeployGate,
    *,
    timeout_seconds: float,
    progress: Callable[[str], object] = lambda _: None,
) -> GateResult:
    """Wait until the gate decides, or the time is up.

    Args:
        following: The fleet.
        gate: Decides.
        timeout_seconds: How long it may take.
        progress: Called with a line whenever there is something new to say.
    """
    began = following.now()
    deadline = began + timeout_seconds
    said = ""
    while True:
        if following.is_hopeless:
            outcome = DeployOutcome.UNREACHABLE
            break
        decided = None
        if following.reached:
            # What is known counts up to when it was known: Redis may hang since then.
            decided = gate.decide([*following.instances.values()], following.known_at)
        if (line := progress_line(following, gate)) != said:
            progress(line)
            said = line
        now = following.now()
        if decided is not None:
            outcome = decided
            break
        if now >= deadline:
            outcome = DeployOutcome.TIMED_OUT
            if not following.was_reached:
                outcome = DeployOutcome.UNREACHABLE
            break
        for one in following.news(min(deadline, now + _LOOK_SECONDS) - now):
            if isinstance(one, Contact):
                gate.forget()
    reason = following.failure.reason if following.failure else ""
    return GateResult(outcome, gate, following.now() - began, reason)


def progress_line(following: Followed, gate: DeployGate) -> str:
    """How it stands, in one line; empty while there is nothing to say."""
    if following.failure is not None:
        return f"{following.failure.reason}; trying again"
    if not following.reached:
        return ""
    standing: DeployStanding = gate.standing
    line = f"{standing.ready} of {gate.wanted} instances of {gate.version} are ready"
    if standing.waits_for:
        line += f"; {standing.waits_for[0]}"
        more = len(standing.waits_for) - 1
        line += f", and {more} more" if more else ""
    return line
