"""`check-policy`: whether budget, grace, drain and probe numbers can work together."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from orchestrator.cli._shell.exit_codes import FAILED, OK
from orchestrator.cli.policy.numbers import (
    CLIENT_SECONDS,
    Hosting,
    Numbers,
    most_threshold,
    threshold_for,
    verdict_seconds,
)
from states import Policy

# The limit is where the policy checks its budget against it, too.
from states._policy import CLOUD_RUN_STARTUP_LIMIT_SECONDS

_SLOW_PERIOD_SECONDS = 2.0
_LEAST_LIVENESS_SECONDS = 10.0
_PROGRESS_DEADLINE_SECONDS = 600.0
"""What a Kubernetes Deployment waits for progress, if it is not told otherwise."""


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


def check(policy: Policy, numbers: Numbers, place: Hosting) -> PolicyCheck:
    """Compare a policy with the numbers of a platform."""
    found = [
        *_start(policy, numbers, place),
        *_probes(policy, numbers, place),
        *_stop(numbers, place),
    ]
    found += _gate(policy, numbers)
    return PolicyCheck(place, policy, numbers, tuple(found))


def _start(policy: Policy, numbers: Numbers, place: Hosting) -> Iterator[Finding]:
    verdict = verdict_seconds(policy, numbers.boot_seconds)
    if place.probed:
        yield from _window(policy, numbers, place, verdict)
    if place is Hosting.SYSTEMD:
        yield from _systemd(policy, numbers, verdict)
    if place is Hosting.KUBERNETES and numbers.window_seconds > _PROGRESS_DEADLINE_SECONDS:
        yield Finding(
            Severity.WARNING,
            "progress-deadline",
            f"a start-up may take {numbers.window_seconds:g} s, and a Deployment counts as stuck"
            f" after {_PROGRESS_DEADLINE_SECONDS:g} s: set progressDeadlineSeconds higher",
        )
    if policy.grace_seconds > policy.budget_seconds / 2:
        yield Finding(
            Severity.WARNING,
            "grace-eats-budget",
            f"grace ({policy.grace_seconds:g} s) takes more than half of the budget"
            f" ({policy.budget_seconds:g} s): one failure during grace and it is spent",
        )


def _window(policy: Policy, numbers: Numbers, place: Hosting, verdict: float) -> Iterator[Finding]:
    needed = _needed(policy, numbers)
    most = most_threshold(place, numbers.period_seconds)
    if most is not None and needed > most:
        yield Finding(
            Severity.ERROR,
            "cloud-run-limit",
            f"the start-up may be decided only after {verdict:g} s, and Cloud Run allows"
            f" failureThreshold x periodSeconds to be {CLOUD_RUN_STARTUP_LIMIT_SECONDS:g} s at"
            f" most: {_shorter(policy, numbers, most)}",
        )
    elif most is not None and numbers.failure_threshold > most:
        product = numbers.period_seconds * numbers.failure_threshold
        yield Finding(
            Severity.ERROR,
            "cloud-run-limit",
            f"failureThreshold x periodSeconds is {product:g} s, and Cloud Run allows at most"
            f" {CLOUD_RUN_STARTUP_LIMIT_SECONDS:g} s: set failureThreshold to {needed}",
        )
    elif numbers.failure_threshold < needed:
        gives_up = f"the platform gives up after {numbers.window_seconds:g} s"
        if numbers.window_seconds >= verdict:
            gives_up = f"the last probe begins after {numbers.last_probe_seconds:g} s"
        yield Finding(
            Severity.ERROR,
            "window-too-short",
            f"{gives_up}, and the start-up may be decided only after {verdict:g} s: nobody would"
            f" learn why. Set failureThreshold to {needed}, or a shorter budget",
        )


def _needed(policy: Policy, numbers: Numbers) -> int:
    return threshold_for(
        policy, numbers.boot_seconds, numbers.period_seconds, numbers.initial_delay_seconds
    )


def _shorter(policy: Policy, numbers: Numbers, most: int) -> str:
    """What to do where the platform does not wait long enough."""
    last = numbers.initial_delay_seconds + numbers.period_seconds * (most - 1)
    budget = last - numbers.boot_seconds - policy.grace_seconds
    if most and budget >= max(policy.grace_seconds, policy.attempt_timeout_seconds):
        return f"set failureThreshold to {most}, and the budget to at most {budget:g} s"
    return "set periodSeconds to 1, or let the process start faster"


def _systemd(policy: Policy, numbers: Numbers, verdict: float) -> Iterator[Finding]:
    if numbers.start_limit_seconds < verdict:
        yield Finding(
            Severity.ERROR,
            "start-limit-too-short",
            f"systemd gives up after {numbers.start_limit_seconds:g} s, and the start-up may be"
            f" decided only after {verdict:g} s: set TimeoutStartSec to {verdict:g} or more",
        )
    interval, burst = numbers.start_limit_interval_seconds, numbers.start_limit_burst
    # A start that fails takes the whole budget: as many as are allowed, together.
    together = burst * (policy.budget_seconds + numbers.restart_seconds)
    if interval and burst and interval >= together:
        yield Finding(
            Severity.ERROR,
            "start-limit-reached",
            f"{burst} failed starts take {together:g} s, and so many within {interval:g} s make"
            " systemd give up for good, however soon Redis is back: set StartLimitIntervalSec to 0",
        )


def _probes(policy: Policy, numbers: Numbers, place: Hosting) -> Iterator[Finding]:
    if not place.probed:
        return
    cloud_run = place.platform.is_gcp
    if cloud_run and numbers.initial_delay_seconds > CLOUD_RUN_STARTUP_LIMIT_SECONDS:
        yield Finding(
            Severity.ERROR,
            "cloud-run-delay",
            f"initialDelaySeconds is {numbers.initial_delay_seconds:g}, and Cloud Run allows at"
            f" most {CLOUD_RUN_STARTUP_LIMIT_SECONDS:g}: set it to 0",
        )
    if numbers.timeout_seconds > numbers.period_seconds:
        yield Finding(
            Severity.ERROR if cloud_run else Severity.WARNING,
            "timeout-beyond-period",
            f"a probe may take {numbers.timeout_seconds:g} s, and one begins every"
            f" {numbers.period_seconds:g} s: set timeoutSeconds to at most periodSeconds",
        )
    if numbers.period_seconds > _SLOW_PERIOD_SECONDS:
        yield Finding(
            Severity.WARNING,
            "slow-probe",
            f"ready is noticed up to {numbers.period_seconds:g} s late, and nobody is let in"
            f" before: set {_faster(policy, numbers, place)}",
        )
    liveness = numbers.liveness_period_seconds * numbers.liveness_threshold
    if liveness < _LEAST_LIVENESS_SECONDS:
        yield Finding(
            Severity.WARNING,
            "hasty-liveness",
            f"a process that does not answer for {liveness:g} s is restarted: a busy machine is"
            f" enough for that. Allow {_LEAST_LIVENESS_SECONDS:g} s",
        )


def _faster(policy: Policy, numbers: Numbers, place: Hosting) -> str:
    """The probe that asks once a second, and still as long as it has to."""
    faster = replace(numbers, period_seconds=1.0)
    needed, most = _needed(policy, faster), most_threshold(place, 1.0)
    names = "periodSeconds and timeoutSeconds" if numbers.timeout_seconds > 1 else "periodSeconds"
    # What cannot be seen at any pace has its own finding.
    return f"{names} to 1, and failureThreshold to {min(needed, most or needed)}"


def _stop(numbers: Numbers, place: Hosting) -> Iterator[Finding]:
    stop = numbers.pre_stop_seconds + numbers.drain_seconds
    limit = numbers.stop_limit_seconds
    if place.platform.is_gcp and limit != place.stop_limit_seconds:
        limit = place.stop_limit_seconds
        yield Finding(
            Severity.ERROR,
            "stop-limit-is-fixed",
            f"the platform kills {limit:g} s after SIGTERM, and that cannot be changed to"
            f" {numbers.stop_limit_seconds:g} s: leave --stop-limit out",
        )
    if stop > limit:
        names = {
            Hosting.KUBERNETES: "terminationGracePeriodSeconds",
            Hosting.SYSTEMD: "TimeoutStopSec",
        }
        mend = f"raise {names[place]}" if place in names else "drain faster"
        yield Finding(
            Severity.ERROR,
            "killed-while-draining",
            f"stopping takes up to {stop:g} s, and the platform kills after {limit:g} s: {mend}",
        )


def _gate(policy: Policy, numbers: Numbers) -> Iterator[Finding]:
    if numbers.hold_seconds >= CLIENT_SECONDS:
        yield Finding(
            Severity.WARNING,
            "hold-beyond-clients",
            f"the gate holds for {numbers.hold_seconds:g} s, and clients give up after"
            f" {CLIENT_SECONDS:g} s: their places stay taken for nothing",
        )
    if numbers.hold_seconds > numbers.drain_seconds:
        yield Finding(
            Severity.WARNING,
            "hold-beyond-drain",
            f"a held request may take {numbers.hold_seconds:g} s, and draining ends after"
            f" {numbers.drain_seconds:g} s: those held then are cut off",
        )
    if policy.grace_seconds >= numbers.hold_seconds > 0:
        yield Finding(
            Severity.WARNING,
            "grace-beyond-hold",
            f"grace alone ({policy.grace_seconds:g} s) outlasts what the gate holds for"
            f" ({numbers.hold_seconds:g} s): whoever comes when it begins is refused",
        )
