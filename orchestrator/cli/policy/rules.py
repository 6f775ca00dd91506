"""`check-policy`: whether budget, grace, drain and probe numbers can work together."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from orchestrator.cli.policy.numbers import (
    CLIENT_SECONDS,
    Hosting,
    Numbers,
    most_threshold,
    threshold_for,
    verdict_seconds,
)
from orchestrator.cli.policy.result import Finding, PolicyCheck, Severity
from states import Policy

# The limit is where the policy checks its budget against it, too.
from states._policy import CLOUD_RUN_STARTUP_LIMIT_SECONDS

_SLOW_PERIOD_SECONDS = 2.0
_LEAST_LIVENESS_SECONDS = 10.0
_PROGRESS_DEADLINE_SECONDS = 600.0
"""What a Kubernetes Deployment waits for progress, by default."""


@dataclass(frozen=True, slots=True)
class _Case:
    """What a rule looks at."""

    policy: Policy
    numbers: Numbers
    place: Hosting

    @property
    def verdict(self) -> float:
        return verdict_seconds(self.policy, self.numbers.boot_seconds)

    @property
    def most(self) -> int | None:
        """The largest failure threshold that the platform takes."""
        return most_threshold(self.place, self.numbers.period_seconds)

    @property
    def needed(self) -> int:
        """The least failure threshold with which the start-up probe sees every verdict."""
        numbers = self.numbers
        return threshold_for(
            self.policy,
            numbers.boot_seconds,
            numbers.period_seconds,
            numbers.initial_delay_seconds,
        )

    @property
    def stop_limit(self) -> float:
        """How long the platform really waits before it kills."""
        fixed = self.place.platform.is_gcp
        return self.place.stop_limit_seconds if fixed else self.numbers.stop_limit_seconds

    @property
    def stop(self) -> float:
        return self.numbers.pre_stop_seconds + self.numbers.drain_seconds


def _budget_beyond_cloud_run(case: _Case) -> str | None:
    if case.most is None or case.needed <= case.most:
        return None
    return (
        f"the start-up may be decided only after {case.verdict:g} s, and Cloud Run allows"
        f" failureThreshold x periodSeconds to be {CLOUD_RUN_STARTUP_LIMIT_SECONDS:g} s at"
        f" most: {_shorter(case, case.most)}"
    )


def _shorter(case: _Case, most: int) -> str:
    """What to do where the platform does not wait long enough."""
    policy, numbers = case.policy, case.numbers
    last = numbers.initial_delay_seconds + numbers.period_seconds * (most - 1)
    budget = last - numbers.boot_seconds - policy.grace_seconds
    if most and budget >= max(policy.grace_seconds, policy.attempt_timeout_seconds):
        return f"set failureThreshold to {most}, and the budget to at most {budget:g} s"
    return "set periodSeconds to 1, or let the process start faster"


def _threshold_beyond_cloud_run(case: _Case) -> str | None:
    threshold = case.numbers.failure_threshold
    if case.most is None or not case.needed <= case.most < threshold:
        return None
    return (
        f"failureThreshold x periodSeconds is {case.numbers.period_seconds * threshold:g} s, and"
        f" Cloud Run allows at most {CLOUD_RUN_STARTUP_LIMIT_SECONDS:g} s: set failureThreshold to"
        f" {case.needed}"
    )


def _window_too_short(case: _Case) -> str | None:
    numbers = case.numbers
    enough = numbers.failure_threshold >= case.needed
    if enough or (case.most is not None and case.needed > case.most):
        return None
    gives_up = f"the platform gives up after {numbers.window_seconds:g} s"
    if numbers.window_seconds >= case.verdict:
        gives_up = f"the last probe begins after {numbers.last_probe_seconds:g} s"
    return (
        f"{gives_up}, and the start-up may be decided only after {case.verdict:g} s, so the"
        f" reason is never shown. Set failureThreshold to {case.needed}, or a shorter budget"
    )


def _start_limit_too_short(case: _Case) -> str | None:
    limit = case.numbers.start_limit_seconds
    if limit >= case.verdict:
        return None
    return (
        f"systemd gives up after {limit:g} s, and the start-up may be decided only after"
        f" {case.verdict:g} s: set TimeoutStartSec to {case.verdict:g} or more"
    )


def _start_limit_reached(case: _Case) -> str | None:
    numbers = case.numbers
    interval, burst = numbers.start_limit_interval_seconds, numbers.start_limit_burst
    # A start that fails takes the whole budget: as many as are allowed, together.
    together = burst * (case.policy.budget_seconds + numbers.restart_seconds)
    if not (interval and burst and interval >= together):
        return None
    return (
        f"{burst} failed starts take {together:g} s, and so many within {interval:g} s make"
        " systemd give up for good, however soon Redis is back: set StartLimitIntervalSec to 0"
    )


def _progress_deadline(case: _Case) -> str | None:
    if case.numbers.window_seconds <= _PROGRESS_DEADLINE_SECONDS:
        return None
    return (
        f"a start-up may take {case.numbers.window_seconds:g} s, and a Deployment counts as stuck"
        f" after {_PROGRESS_DEADLINE_SECONDS:g} s: set progressDeadlineSeconds higher"
    )


def _grace_eats_budget(case: _Case) -> str | None:
    policy = case.policy
    if policy.grace_seconds <= policy.budget_seconds / 2:
        return None
    return (
        f"grace ({policy.grace_seconds:g} s) takes more than half of the budget"
        f" ({policy.budget_seconds:g} s): one failure during grace and it is spent"
    )


def _cloud_run_delay(case: _Case) -> str | None:
    if case.numbers.initial_delay_seconds <= CLOUD_RUN_STARTUP_LIMIT_SECONDS:
        return None
    return (
        f"initialDelaySeconds is {case.numbers.initial_delay_seconds:g}, and Cloud Run allows at"
        f" most {CLOUD_RUN_STARTUP_LIMIT_SECONDS:g}: set it to 0"
    )


def _timeout_beyond_period(case: _Case) -> str | None:
    numbers = case.numbers
    if numbers.timeout_seconds <= numbers.period_seconds:
        return None
    return (
        f"a probe may take {numbers.timeout_seconds:g} s, and one begins every"
        f" {numbers.period_seconds:g} s: set timeoutSeconds to at most periodSeconds"
    )


def _slow_probe(case: _Case) -> str | None:
    numbers = case.numbers
    if numbers.period_seconds <= _SLOW_PERIOD_SECONDS:
        return None
    # The probe that asks once a second, and still as long as it has to. What cannot be seen at any
    # pace has its own finding.
    faster = replace(case, numbers=replace(numbers, period_seconds=1.0))
    names = "periodSeconds and timeoutSeconds" if numbers.timeout_seconds > 1 else "periodSeconds"
    threshold = min(faster.needed, faster.most or faster.needed)
    return (
        f"ready is noticed up to {numbers.period_seconds:g} s late, and until then no client gets"
        f" in: set {names} to 1, and failureThreshold to {threshold}"
    )


def _hasty_liveness(case: _Case) -> str | None:
    seconds = case.numbers.liveness_period_seconds * case.numbers.liveness_threshold
    if seconds >= _LEAST_LIVENESS_SECONDS:
        return None
    return (
        f"a process that does not answer for {seconds:g} s is restarted: a busy machine is"
        f" enough for that. Allow {_LEAST_LIVENESS_SECONDS:g} s"
    )


def _stop_limit_is_fixed(case: _Case) -> str | None:
    if case.numbers.stop_limit_seconds == case.stop_limit:
        return None
    return (
        f"the platform kills {case.stop_limit:g} s after SIGTERM, and that cannot be changed to"
        f" {case.numbers.stop_limit_seconds:g} s: leave --stop-limit out"
    )


def _killed_while_draining(case: _Case) -> str | None:
    if case.stop <= case.stop_limit:
        return None
    names = {
        Hosting.KUBERNETES: "raise terminationGracePeriodSeconds",
        Hosting.SYSTEMD: "raise TimeoutStopSec",
    }
    return (
        f"stopping takes up to {case.stop:g} s, and the platform kills after"
        f" {case.stop_limit:g} s: {names.get(case.place, 'drain faster')}"
    )


def _announced_too_briefly(case: _Case) -> str | None:
    served = case.numbers.pre_stop_seconds + case.policy.drain_announce_seconds
    if served >= case.numbers.ingress_seconds:
        return None
    return (
        f"requests arrive for {case.numbers.ingress_seconds:g} s after the end has begun, and are"
        f" served for {served:g} s of them: set ORCHESTRATOR_DRAIN_ANNOUNCE_SECONDS to"
        f" {case.numbers.ingress_seconds - case.numbers.pre_stop_seconds:g}; it has to cover"
        " kube-proxy and the ingress, not only the period of the readiness probe"
    )


def _hold_beyond_clients(case: _Case) -> str | None:
    if case.numbers.hold_seconds < CLIENT_SECONDS:
        return None
    return (
        f"the gate holds for {case.numbers.hold_seconds:g} s, and clients give up after"
        f" {CLIENT_SECONDS:g} s: their places stay taken for nothing"
    )


def _hold_beyond_drain(case: _Case) -> str | None:
    numbers = case.numbers
    if numbers.hold_seconds <= numbers.drain_seconds:
        return None
    return (
        f"a held request may take {numbers.hold_seconds:g} s, and draining ends after"
        f" {numbers.drain_seconds:g} s: those held then are cut off"
    )


def _grace_beyond_hold(case: _Case) -> str | None:
    grace, hold = case.policy.grace_seconds, case.numbers.hold_seconds
    if not grace >= hold > 0:
        return None
    return (
        f"grace alone ({grace:g} s) is longer than the gate holds clients"
        f" ({hold:g} s): those that come when it begins are refused"
    )


_EVERYWHERE = frozenset(Hosting)
_PROBED = frozenset(place for place in Hosting if place.probed)
_GCP = frozenset(place for place in Hosting if place.platform.is_gcp)
_SYSTEMD, _KUBERNETES = {Hosting.SYSTEMD}, {Hosting.KUBERNETES}

_Rule = tuple[str, Severity, Collection[Hosting], Callable[[_Case], str | None]]
"""Its name, how bad it is, where it holds, and what is wrong if it is broken."""

_RULES: tuple[_Rule, ...] = (
    ("cloud-run-limit", Severity.ERROR, _PROBED, _budget_beyond_cloud_run),
    ("cloud-run-limit", Severity.ERROR, _PROBED, _threshold_beyond_cloud_run),
    ("window-too-short", Severity.ERROR, _PROBED, _window_too_short),
    ("start-limit-too-short", Severity.ERROR, _SYSTEMD, _start_limit_too_short),
    ("start-limit-reached", Severity.ERROR, _SYSTEMD, _start_limit_reached),
    ("progress-deadline", Severity.WARNING, _KUBERNETES, _progress_deadline),
    ("grace-eats-budget", Severity.WARNING, _EVERYWHERE, _grace_eats_budget),
    ("cloud-run-delay", Severity.ERROR, _PROBED & _GCP, _cloud_run_delay),
    ("timeout-beyond-period", Severity.ERROR, _PROBED & _GCP, _timeout_beyond_period),
    ("timeout-beyond-period", Severity.WARNING, _PROBED - _GCP, _timeout_beyond_period),
    ("slow-probe", Severity.WARNING, _PROBED, _slow_probe),
    ("hasty-liveness", Severity.WARNING, _PROBED, _hasty_liveness),
    ("stop-limit-is-fixed", Severity.ERROR, _GCP, _stop_limit_is_fixed),
    ("killed-while-draining", Severity.ERROR, _EVERYWHERE, _killed_while_draining),
    ("announced-too-briefly", Severity.WARNING, _EVERYWHERE, _announced_too_briefly),
    ("hold-beyond-clients", Severity.WARNING, _EVERYWHERE, _hold_beyond_clients),
    ("hold-beyond-drain", Severity.WARNING, _EVERYWHERE, _hold_beyond_drain),
    ("grace-beyond-hold", Severity.WARNING, _EVERYWHERE, _grace_beyond_hold),
)


def check(policy: Policy, numbers: Numbers, place: Hosting) -> PolicyCheck:
    """Compare a policy with the numbers of a platform."""
    case = _Case(policy, numbers, place)
    lines = [(severity, name, tell(case)) for name, severity, at, tell in _RULES if place in at]
    findings = tuple(Finding(severity, name, text) for severity, name, text in lines if text)
    return PolicyCheck(place, policy, numbers, findings)
