"""When to ask next: quick after a loss, evenly spaced in an outage, steady while all is well."""

from random import Random

from states import FailureKind, Policy, Snapshot, Stage


class Pacer:
    """Turns what the machine knows into the delay before the next attempt."""

    def __init__(self, policy: Policy, random: Random | None = None) -> None:
        self._policy = policy
        self._random = random or Random()  # noqa: S311  spreads instances; nothing secret
        self._phase = 0.0

    def delay_seconds(self, known: Snapshot) -> float:
        """How long to wait after the last attempt, in seconds."""
        policy = self._policy
        if known.failures_in_row == 1:
            # A random first phase shifts the whole ramp, so that instances that lost Redis in the
            # same moment do not return to it in the same moment.
            self._phase = self._random.random()
        if not known.failures_in_row:
            if known.stage is Stage.GRACE and known.grace_left_seconds:
                # The last one is asked exactly when grace ends: it is proved by an answer.
                return min(policy.grace_interval_seconds, known.grace_left_seconds)
            return self._jittered(policy.probe_interval_seconds)
        if known.stage is Stage.READY:
            return self._jittered(policy.confirm_interval_seconds)
        failure = known.last_failure
        if failure is not None and failure.kind is FailureKind.PERMANENT:
            return self._jittered(policy.permanent_retry_seconds)
        if failure is not None and failure.congestion:
            return self._backed_off(known.failures_in_row)
        return self._ramp(known)

    def _ramp(self, known: Snapshot) -> float:
        policy = self._policy
        step = policy.retry_steady_seconds
        exponent = min(known.failures_in_row - 1, 64) + self._phase
        step = min(step, policy.retry_first_seconds * policy.retry_growth**exponent)
        if known.outage_since is not None:
            outage = known.last_at - known.outage_since
            step = max(step, outage * policy.retry_outage_fraction)
        return self._jittered(min(step, policy.retry_cap_seconds))

    def _backed_off(self, failures: int) -> float:
        policy = self._policy
        ceiling = policy.retry_steady_seconds * 2.0 ** min(failures, 64)
        return self._random.uniform(
            policy.retry_first_seconds, min(ceiling, policy.congestion_cap_seconds)
        )

    def _jittered(self, seconds: float) -> float:
        share = self._policy.retry_jitter
        return seconds * self._random.uniform(1 - share, 1 + share)
