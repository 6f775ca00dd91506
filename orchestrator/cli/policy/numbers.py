"""The numbers that a platform is given, derived from the policy.

`check-policy` compares with them, and the files in `docs/deploy` are tested against them.
"""

import math
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field
from enum import Enum, StrEnum, auto
from types import MappingProxyType
from typing import Any

from states import Platform, Policy

# The limit is where the policy checks its budget against it, too.
from states._policy import CLOUD_RUN_STARTUP_LIMIT_SECONDS

BOOT_SECONDS = 10.0
"""What is allowed for the process to start: image, interpreter, imports and set-up. The budget
counts from when the orchestrator is entered, and the platform's patience from before."""

DRAIN_SECONDS = 5.0
"""How long a service that does not drain may take to end its work once it gets SIGTERM."""

INGRESS_SECONDS = 5.0
"""How long requests still arrive at a Kubernetes pod that ends: what kube-proxy takes. Some
ingresses take 10 to 30 s."""

HOLD_SECONDS = 5.0
"""How long the gate holds a request, by default."""

CLIENT_SECONDS = 10.0
"""How long common WebSocket clients wait for a handshake."""

_STOP_MARGIN_SECONDS = 5.0
_NOTHING: Mapping[str, float] = MappingProxyType({})


class Hosting(StrEnum):
    """Where a service can be deployed: the platforms, and systemd."""

    CLOUD_RUN = Platform.CLOUD_RUN.value
    CLOUD_RUN_JOB = Platform.CLOUD_RUN_JOB.value
    CLOUD_RUN_WORKER_POOL = Platform.CLOUD_RUN_WORKER_POOL.value
    APP_ENGINE = Platform.APP_ENGINE.value
    CLOUD_FUNCTIONS = Platform.CLOUD_FUNCTIONS.value
    KUBERNETES = Platform.KUBERNETES.value
    OTHER = Platform.OTHER.value
    SYSTEMD = "systemd"

    @property
    def platform(self) -> Platform:
        """The platform whose defaults the policy has there."""
        return Platform.OTHER if self is Hosting.SYSTEMD else Platform(self.value)

    @property
    def probed(self) -> bool:
        """Whether the platform asks a start-up probe."""
        return self in (
            Hosting.CLOUD_RUN,
            Hosting.CLOUD_RUN_JOB,
            Hosting.CLOUD_RUN_WORKER_POOL,
            Hosting.KUBERNETES,
        )

    @property
    def stop_limit_seconds(self) -> float:
        """How long the platform waits after SIGTERM, or the stop hook, before it kills."""
        if self.platform.is_gcp:
            return 10.0  # Google Cloud, "Container runtime contract": fixed
        return 90.0 if self is Hosting.SYSTEMD else 30.0  # what is configurable has these defaults


class Bound(Enum):
    """What a number must be."""

    ANY = auto()
    """A number of 0 or more."""

    WHOLE = auto()
    """The same, and the platform takes whole seconds only."""

    WHOLE_ON_KUBERNETES = auto()
    """The same, where the platform is Kubernetes."""

    ABOVE_ZERO = auto()
    """A number above 0."""

    WHOLE_ABOVE_ZERO = auto()
    """The same, and the platform takes whole seconds only."""


SECONDS, COUNT = "SECONDS", "N"
"""What options count, as their help says it."""


@dataclass(frozen=True, slots=True)
class Option:
    """What the command line knows of a number.

    Attributes:
        name: The option, without its dashes.
        help: What the number is, in a few words.
        unit: What is counted.
        bound: What the number must be.
    """

    name: str
    help: str
    unit: str = SECONDS
    bound: Bound = Bound.ANY


def _seconds(name: str, help_: str, bound: Bound = Bound.ANY) -> float:
    number: float = field(metadata={"option": Option(name, help_, SECONDS, bound)})
    return number


def _count(name: str, help_: str, bound: Bound = Bound.ABOVE_ZERO) -> int:
    number: int = field(metadata={"option": Option(name, help_, COUNT, bound)})
    return number


def option_of(number: Field[Any]) -> Option:
    """The option of a field of `Numbers`."""
    option: Option = number.metadata["option"]
    return option


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What a platform is configured with. Durations are in seconds; each field says what it is."""

    boot_seconds: float = _seconds(
        "boot", "From the start of the process until the orchestrator is entered."
    )
    initial_delay_seconds: float = _seconds(
        "initial-delay", "Before the first start-up probe: initialDelaySeconds.", Bound.WHOLE
    )
    period_seconds: float = _seconds(
        "probe-period", "Between start-up probes: periodSeconds.", Bound.WHOLE_ABOVE_ZERO
    )
    timeout_seconds: float = _seconds(
        "probe-timeout", "Of one start-up probe: timeoutSeconds.", Bound.WHOLE_ABOVE_ZERO
    )
    failure_threshold: int = _count(
        "failure-threshold", "How many failed start-up probes end the instance."
    )
    liveness_period_seconds: float = _seconds(
        "liveness-period", "Between liveness probes.", Bound.WHOLE_ABOVE_ZERO
    )
    liveness_threshold: int = _count(
        "liveness-threshold", "How many failed liveness probes restart it."
    )
    pre_stop_seconds: float = _seconds(
        "pre-stop",
        "How long a sleeping stop hook delays SIGTERM; 0 with the hook `drain`.",
        Bound.WHOLE_ON_KUBERNETES,
    )
    drain_seconds: float = _seconds(
        "drain", "From SIGTERM, or the hook `drain`, to the end; default: drain_limit_seconds."
    )
    ingress_seconds: float = _seconds(
        "ingress", "How long load balancers still route to an instance that is ending."
    )
    stop_limit_seconds: float = _seconds(
        "stop-limit", "terminationGracePeriodSeconds, or TimeoutStopSec.", Bound.WHOLE_ON_KUBERNETES
    )
    start_limit_seconds: float = _seconds("start-limit", "TimeoutStartSec.")
    restart_seconds: float = _seconds("restart-delay", "RestartSec.")
    start_limit_interval_seconds: float = _seconds(
        "start-limit-interval", "StartLimitIntervalSec; systemd's own default is 10."
    )
    start_limit_burst: int = _count("start-limit-burst", "StartLimitBurst.", Bound.ANY)
    hold_seconds: float = _seconds("hold", "hold_seconds of the gate.")

    @property
    def window_seconds(self) -> float:
        """How long the platform waits for the start-up probe to succeed."""
        return self.initial_delay_seconds + self.period_seconds * self.failure_threshold

    @property
    def last_probe_seconds(self) -> float:
        """When the last of the start-up probes begins, which has to see the verdict."""
        return self.initial_delay_seconds + self.period_seconds * (self.failure_threshold - 1)


def verdict_seconds(policy: Policy, boot_seconds: float = BOOT_SECONDS) -> float:
    """When a start-up has surely been decided, from the start of the process.

    Grace may begin at the very end of the budget, and is then still served.
    """
    return boot_seconds + policy.budget_seconds + policy.grace_seconds


def threshold_for(
    policy: Policy, boot_seconds: float, period_seconds: float, initial_delay_seconds: float = 0.0
) -> int:
    """The least failure threshold with which a start-up probe sees every verdict."""
    after = max(0.0, verdict_seconds(policy, boot_seconds) - initial_delay_seconds)
    # Sums of decimal fractions come out a little too large now and then.
    return math.ceil(round(after / period_seconds, 6)) + 1


def most_threshold(place: Hosting, period_seconds: float) -> int | None:
    """The largest failure threshold that the platform takes; `None` for any."""
    if not place.platform.is_gcp:
        return None
    return int(CLOUD_RUN_STARTUP_LIMIT_SECONDS // period_seconds)


def _stop_limit_seconds(policy: Policy, place: Hosting) -> float:
    """How long the platform has to wait for a service that ends as its policy says."""
    if place.platform.is_gcp:
        return place.stop_limit_seconds
    return (policy.drain_limit_seconds or DRAIN_SECONDS) + _STOP_MARGIN_SECONDS


def recommended(policy: Policy, place: Hosting, given: Mapping[str, float] = _NOTHING) -> Numbers:
    """Numbers that work together with a policy.

    Args:
        policy: The policy.
        place: Where the service is deployed.
        given: Numbers that are settled, by the names of their fields: the others follow from them.
    """
    gcp = place.platform.is_gcp
    boot = given.get("boot_seconds", BOOT_SECONDS)
    delay = given.get("initial_delay_seconds", 0.0)
    # Until the probe succeeds no one is let in: each second between probes is one of waiting.
    least = max(1.0, given.get("timeout_seconds", 1.0)) if gcp else 1.0
    period = given.get("period_seconds", least)
    threshold = threshold_for(policy, boot, period, delay)
    most = most_threshold(place, period)
    pre_stop = given.get("pre_stop_seconds", 0.0)
    drain = given.get("drain_seconds", policy.drain_limit_seconds or DRAIN_SECONDS)
    fitting = Numbers(
        boot_seconds=boot,
        initial_delay_seconds=delay,
        period_seconds=period,
        timeout_seconds=1.0,
        failure_threshold=threshold if most is None else max(1, min(threshold, most)),
        liveness_period_seconds=10.0,
        liveness_threshold=3,
        pre_stop_seconds=pre_stop,
        drain_seconds=drain,
        ingress_seconds=INGRESS_SECONDS if place is Hosting.KUBERNETES else 0.0,
        stop_limit_seconds=_stop_limit_seconds(policy, place),
        start_limit_seconds=math.ceil(verdict_seconds(policy, boot) + _STOP_MARGIN_SECONDS),
        restart_seconds=1.0,
        start_limit_interval_seconds=0.0,  # an outage may outlast any number of starts
        start_limit_burst=5,
        hold_seconds=HOLD_SECONDS,
    )
    return Numbers(**{**asdict(fitting), **given})
