"""Every threshold and duration, with its reason, in one validated place."""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Self, TypedDict, Unpack

from states._bounds import WHOLE, Bounds, bounded, not_negative, positive
from states._errors import PolicyError

CLOUD_RUN_STARTUP_LIMIT_SECONDS = 240.0
"""The longest that a Cloud Run start-up probe may wait (Google Cloud, "Configure container health
checks": failureThreshold x periodSeconds at most 240 s)."""

GCP_STOP_LIMIT_SECONDS = 10.0
"""How long Google Cloud's serverless platforms wait after SIGTERM before they kill an instance
(Google Cloud, "Container runtime contract"); it cannot be changed."""


class Platform(StrEnum):
    """Where the service runs; it sets defaults and is an attribute of the telemetry."""

    CLOUD_RUN = "cloud_run"
    CLOUD_RUN_JOB = "cloud_run_job"
    CLOUD_RUN_WORKER_POOL = "cloud_run_worker_pool"
    APP_ENGINE = "app_engine"
    CLOUD_FUNCTIONS = "cloud_functions"
    KUBERNETES = "kubernetes"
    OTHER = "other"

    @property
    def is_gcp(self) -> bool:
        """Whether this is one of Google Cloud's serverless platforms."""
        return self in _GCP


_GCP = frozenset(
    {
        Platform.CLOUD_RUN,
        Platform.CLOUD_RUN_JOB,
        Platform.CLOUD_RUN_WORKER_POOL,
        Platform.APP_ENGINE,
        Platform.CLOUD_FUNCTIONS,
    }
)


class PolicyOverrides(TypedDict, total=False):
    """The fields of `Policy` but for the platform, so that type checkers know them by name."""

    budget_seconds: float
    grace_seconds: float
    attempt_timeout_seconds: float
    answer_patience_seconds: float
    failures_to_degrade: int
    probe_interval_seconds: float
    confirm_interval_seconds: float
    grace_interval_seconds: float
    retry_first_seconds: float
    retry_growth: float
    retry_steady_seconds: float
    retry_outage_fraction: float
    retry_cap_seconds: float
    retry_jitter: float
    congestion_cap_seconds: float
    fleet_size: int
    connects_per_second: float
    permanent_retry_seconds: float
    stall_seconds: float
    flap_window_seconds: float
    flap_grace_seconds: float
    flap_grace_cap_seconds: float
    drain_announce_seconds: float
    drain_close_seconds: float
    drain_limit_seconds: float


_GCP_DEFAULTS: PolicyOverrides = {
    "budget_seconds": 60.0,
    "grace_seconds": 0.5,
    "drain_close_seconds": 3.0,
}
_DEFAULTS: dict[Platform, PolicyOverrides] = {
    Platform.KUBERNETES: {
        "drain_announce_seconds": 5.0,
        "drain_close_seconds": 10.0,
        "drain_limit_seconds": 25.0,
    }
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Every threshold and duration of a start-up. Durations are in seconds.

    `Policy.for_platform` gives each platform its own defaults; those here are for any other.

    Raises:
        PolicyError: When a value is out of range, or values cannot work together.
    """

    platform: Platform = field(
        default=Platform.OTHER,
        metadata={"why": "Where the service runs. It decides the defaults of budget and grace."},
    )
    budget_seconds: float = positive(
        30.0,
        "How long start-up may wait for Redis and the conditions, counted from the moment the"
        " orchestrator is entered, before it is called degraded. 60 s on Google Cloud, where"
        " a cold network path to Redis takes longer.",
    )
    grace_seconds: float = not_negative(
        0.0,
        "How long Redis must go on answering before ready. 0.5 s on Google Cloud, where the first"
        " answer after a cold start may be followed by a reconnect.",
    )
    attempt_timeout_seconds: float = positive(
        1.0, "The total time of one attempt: name look-up, connect, TLS, login and PING together."
    )
    answer_patience_seconds: float = not_negative(
        10.0,
        "How long a new connection that Redis has accepted may take for TLS, greeting and first"
        " answer. Attempts fail in their own time; the next ones go on with the same connection,"
        " since giving it up costs a busy Redis as much as answering, and no one gets in.",
    )
    failures_to_degrade: int = field(
        default=3,
        metadata={
            "why": "How many failed attempts in a row turn ready into degraded. One dropped"
            " connection is no outage.",
            "allowed": str(WHOLE),
            "bounds": WHOLE,
        },
    )
    probe_interval_seconds: float = positive(
        5.0,
        "The steady pace of attempts while Redis answers. A closed connection is noticed at once"
        " and does not wait for it; it only bounds how long a silent server goes unnoticed.",
    )
    confirm_interval_seconds: float = positive(
        0.1, "The pace while a failure in ready is being confirmed."
    )
    grace_interval_seconds: float = positive(0.1, "The pace of attempts during grace.")
    retry_first_seconds: float = positive(
        0.01, "The first step between attempts while Redis is away. Refusals cost Redis nothing."
    )
    retry_growth: float = bounded(
        2.0,
        Bounds(1),
        "How much longer each step is than the one before, until the steady step.",
    )
    retry_steady_seconds: float = positive(
        0.17, "The step at which the ramp levels out; attempts are evenly spaced from there on."
    )
    retry_outage_fraction: float = not_negative(
        1 / 120,
        "In a long outage the step grows to this share of the outage so far, so that the return"
        " is noticed within that share of it.",
    )
    retry_cap_seconds: float = positive(1.0, "The longest step between attempts.")
    retry_jitter: float = bounded(
        0.1,
        Bounds(0, most=0.5),
        "Each step is varied by up to this share, so that instances drift apart.",
    )
    congestion_cap_seconds: float = positive(
        5.0,
        "The longest step while Redis has more to do than it can handle: too many clients, or"
        " new connections that it does not accept or answer in time.",
    )
    fleet_size: int = field(
        default=1,
        metadata={
            "why": "How many processes ask the same Redis, at least: in a large fleet, each asks"
            " less often. An observer that knows how many are alive says so by itself; give the"
            " number where others use this Redis too, or where hundreds start at the same moment.",
            "allowed": str(WHOLE),
            "bounds": WHOLE,
        },
    )
    connects_per_second: float = not_negative(
        0.0,
        "How many new connections per second Redis is assumed to accept from the fleet: the step is"
        " at least as long as the fleet takes at 0.8 times that, up to 10 s. 0 leaves it to the"
        " probe: 2000 with TLS, 8000 without. A guess that is off by a factor of 4 costs little.",
    )
    permanent_retry_seconds: float = positive(
        30.0, "How often a permanent failure is checked again: secrets rotate, addresses change."
    )
    stall_seconds: float = bounded(
        0.25,
        Bounds(0.02),
        "A gap between two facts that is longer than this was a stall of the event loop:"
        " only half of this much of the gap counts as grace.",
    )
    flap_window_seconds: float = not_negative(
        60.0, "A ready that lasted this long is calm: the falls before it are forgotten."
    )
    flap_grace_seconds: float = not_negative(
        0.5,
        "What a second fall without calm adds to the next grace; each further fall doubles it.",
    )
    flap_grace_cap_seconds: float = not_negative(30.0, "The longest grace after falls.")
    drain_announce_seconds: float = not_negative(
        0.0,
        "How long a service that ends goes on serving new requests, while /readyz fails already."
        " 5 s on Kubernetes, which goes on routing to a pod for some seconds; cover the ingress and"
        " its health checks, too. Google Cloud sends nothing new after SIGTERM.",
    )
    drain_close_seconds: float = not_negative(
        2.0,
        "Over how long the open WebSockets are then closed with 1012, evenly, so that their clients"
        " come to the other instances one by one. 10 s on Kubernetes, 3 s on Google Cloud.",
    )
    drain_limit_seconds: float = not_negative(
        8.0,
        "How long the shutdown may be held up in all, running requests included; 0 passes a signal"
        " on to the server at once. 8 s leave the server 2 s of the 10 s that Google Cloud and"
        " `docker stop` wait before they kill; 25 s on Kubernetes, which waits 30 s by default.",
    )

    def __post_init__(self) -> None:
        for spec in fields(self):
            bounds: Bounds | None = spec.metadata.get("bounds")
            value = getattr(self, spec.name)
            if bounds is not None and not bounds.hold(value):
                raise PolicyError(spec.name, value, bounds.refusal(value))
        if not isinstance(self.platform, Platform):
            raise PolicyError("platform", self.platform, "one of " + ", ".join(Platform))
        self._check_together()

    @classmethod
    def for_platform(
        cls,
        platform: Platform,
        **overrides: Unpack[PolicyOverrides],
    ) -> Self:
        """The defaults of a platform, with the given fields replaced.

        Raises:
            PolicyError: When the result cannot work.
            TypeError: When there is no field of that name.
        """
        defaults = _GCP_DEFAULTS if platform.is_gcp else _DEFAULTS.get(platform, {})
        merged: PolicyOverrides = {**defaults, **overrides}
        return cls(platform=platform, **merged)

    def _check_together(self) -> None:
        def at_most(name: str, limit: float, what: str) -> None:
            value = getattr(self, name)
            if value > limit:
                raise PolicyError(name, value, f"at most {limit:g}, {what}")

        if self.platform in (Platform.CLOUD_RUN, Platform.CLOUD_RUN_WORKER_POOL):
            at_most(
                "budget_seconds",
                CLOUD_RUN_STARTUP_LIMIT_SECONDS,
                "the longest that a Cloud Run start-up probe may wait",
            )
        at_most("grace_seconds", self.budget_seconds, "the budget (budget_seconds)")
        at_most("attempt_timeout_seconds", self.budget_seconds, "the budget (budget_seconds)")
        at_most("retry_first_seconds", self.retry_cap_seconds, "retry_cap_seconds")
        at_most("retry_steady_seconds", self.retry_cap_seconds, "retry_cap_seconds")
        at_most("flap_grace_seconds", self.flap_grace_cap_seconds, "flap_grace_cap_seconds")
        limit = self.drain_limit_seconds
        at_most("drain_announce_seconds", limit, "the whole drain (drain_limit_seconds)")
        left = limit - self.drain_announce_seconds
        at_most("drain_close_seconds", left, "drain_limit_seconds less drain_announce_seconds")
        if self.platform.is_gcp:
            platform = "which is when Google Cloud kills"
            at_most("drain_limit_seconds", GCP_STOP_LIMIT_SECONDS, platform)
