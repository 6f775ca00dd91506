"""What `check-policy` has found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from orchestrator.cli._shell.exit_codes import FAILED, OK
from orchestrator.cli.policy.numbers import Hosting, Numbers, verdict_seconds
from states import Policy


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """Numbers that do not go together.

    Attributes:
        severity: Whether it cannot work, or only not well.
        rule: A short stable name.
        text: What is wrong and what to do, in one line.
    """

    severity: Severity
    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """The result.

    Attributes:
        place: Where the service is deployed.
        policy: The policy that was checked.
        numbers: The numbers that were checked.
        findings: What was found.
    """

    place: Hosting
    policy: Policy
    numbers: Numbers
    findings: tuple[Finding, ...]

    @property
    def exit_status(self) -> int:
        """The exit status: warnings are no failure."""
        return FAILED if any(one.severity is Severity.ERROR for one in self.findings) else OK

    def as_json(self) -> Mapping[str, object]:
        """For `--json`."""
        return {
            "exit_status": self.exit_status,
            "platform": self.place,
            "budget_seconds": self.policy.budget_seconds,
            "grace_seconds": self.policy.grace_seconds,
            "verdict_seconds": verdict_seconds(self.policy, self.numbers.boot_seconds),
            "window_seconds": self.numbers.window_seconds if self.place.probed else None,
            "numbers": asdict(self.numbers),
            "findings": [asdict(one) for one in self.findings],
        }

    def summary(self) -> str:
        """What was compared, in one line."""
        numbers = self.numbers
        verdict = verdict_seconds(self.policy, numbers.boot_seconds)
        sums = (
            f"boot {numbers.boot_seconds:g} + budget {self.policy.budget_seconds:g}"
            f" + grace {self.policy.grace_seconds:g}"
        )
        parts = [f"{self.place}: decided after at most {verdict:g} s ({sums})"]
        if self.place.probed:
            first = numbers.initial_delay_seconds
            delay = f"{first:g} s + " if first else ""
            parts.append(
                f"the platform waits {numbers.window_seconds:g} s"
                f" ({delay}{numbers.failure_threshold} x {numbers.period_seconds:g} s)"
            )
        if self.place is Hosting.SYSTEMD:
            parts.append(f"systemd waits {numbers.start_limit_seconds:g} s")
        stop = numbers.pre_stop_seconds + numbers.drain_seconds
        parts.append(f"stops within {stop:g} s of {numbers.stop_limit_seconds:g} s")
        return "; ".join(parts)
