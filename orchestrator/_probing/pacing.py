"""When to ask next: quick after a loss, evenly spaced in an outage, steady while all is well."""

import math
from random import Random

from states import FailureKind, Policy, Snapshot, Stage

_MOST_DOUBLED = 6
"""So many congested failures in a row lengthen the step; more do not."""


class Pacer:
    """Turns what the machine knows into the delay before the next attempt."""

    def __init__(self, policy: Policy, random: Random | None = None) -> None:
        self._policy = policy
        self._random = random or Random()
        self._phase = 0.0

    def delay_seconds(self, known: Snapshot) -> float:
        """How long to wait after the last attempt, in seconds."""
        policy = self._policy
        if known.failures_in_row == 1:
            # A random first phase shifts the whole ramp, so that instances that lost a server at
            # once do not return to it at once.
            self._phase = self._random.random()
        if not known.failures_in_row:
            if known.stage is Stage.GRACE and known.grace_left_seconds:
                # The last one is asked exactly when grace ends: it is proved by an answer.
                return min(policy.grace_interval_seconds, known.grace_left_seconds)
            return self.steady_seconds()
        if known.stage is Stage.READY:
            return self._jittered(policy.confirm_interval_seconds)
        failure = known.last_failure
        if failure is not None and failure.kind is FailureKind.PERMANENT:
            return self._jittered(policy.permanent_retry_seconds)
        if known.congested_in_row:
            return self._backed_off(known)
        return self._ramp(known)

    def steady_seconds(self) -> float:
        """The same after an answer in ready, where nothing else matters."""
        return self._jittered(self._policy.probe_interval_seconds)

    def _ramp(self, known: Snapshot) -> float:
        policy = self._policy
        exponent = min(known.failures_in_row - 1, 64) + self._phase
        try:
            step = policy.retry_first_seconds * policy.retry_growth**exponent
        except OverflowError:
            step = math.inf
        return self._jittered(self._lengthened(min(step, policy.retry_steady_seconds), known))

    def _lengthened(self, step: float, known: Snapshot) -> float:
        """The step, or the outage's share where that is longer."""
        policy = self._policy
        if known.outage_since is not None:
            outage = known.last_at - known.outage_since
            step = max(step, outage * policy.retry_outage_fraction)
        return min(step, policy.retry_cap_seconds)

    def _backed_off(self, known: Snapshot) -> float:
        """A step on average, doubled for each further congested failure, anywhere in its double.

        Only congested failures count: how long a server was away says nothing about how much it has
        to do now, and whoever waited long must not come back as if it had asked in vain.
        """
        step = self._lengthened(self._policy.retry_steady_seconds, known)
        doubled = step * 2.0 ** (min(known.congested_in_row, _MOST_DOUBLED) - 1)
        return self._random.uniform(0.0, min(2 * doubled, self._policy.congestion_cap_seconds))

    def _jittered(self, seconds: float) -> float:
        share = self._policy.retry_jitter
        return seconds * self._random.uniform(1 - share, 1 + share)
