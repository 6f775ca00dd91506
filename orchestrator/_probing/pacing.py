"""When to ask next: quickly after a loss, evenly in an outage, steadily while all is well.

Each instance of a large fleet asks less often: see `FleetStep`. If the fleet's step is longer than
a single instance's, the first wait of an outage is a random part of it, which spreads the fleet
over the step from the first attempt on. In ready, a refused connection is confirmed as quickly as
ever, since refusing costs a server nothing.

Congestion lengthens the step, in two ways. An attempt that times out costs the server as much as an
answer, so the next comes at a random moment of a step that doubles each time. A server that says at
once that it has too many clients spends nothing on the attempt, and has room whenever a client
leaves; so it is asked evenly, to leave no room unused, and the step grows only slowly.
"""

import math
from random import Random

from orchestrator._probing.fleet_step import ALONE, FleetStep
from states import FailureKind, Policy, Snapshot, Stage

_MOST_DOUBLED = 6
"""The step doubles at most so often."""


_FULL_GROWTH, _FULL_JITTER = 1.1, 0.3
"""How much the step for a full server grows each time, and by which share it is varied."""

_MOST_GROWN = 100
"""How often it grows at most; the cap is reached long before."""

_MOST_STEPS = 8
"""A fleet spreads over at most so many of its steps while the server is overloaded."""


class Pacer:
    """Turns what the machine knows into the delay before the next attempt.

    Args:
        policy: The steps.
        random: The source of jitter.
        fleet: The shortest step that the whole fleet may take.
    """

    def __init__(
        self, policy: Policy, random: Random | None = None, fleet: FleetStep = ALONE
    ) -> None:
        self._policy = policy
        self._random = random or Random()
        self._fleet = fleet
        self._phase = 0.0
        self._is_spread = False
        self._is_full = False
        self._others_in_row = 0

    def delay_seconds(self, known: Snapshot) -> float:
        """How long to wait after the last attempt, in seconds."""
        if known.failures_in_row == 1:
            # A random phase shifts the whole ramp, so that instances that lost a server together do
            # not come back to it together.
            self._phase = self._random.random()
            self._is_spread = False
        if not known.failures_in_row:
            if known.stage is Stage.GRACE and known.grace_left_seconds:
                # The last attempt comes exactly when grace ends, so that an answer proves it.
                return min(self._policy.grace_interval_seconds, known.grace_left_seconds)
            return self.steady_seconds()
        return self._after_failure(known, self._fleet.seconds())

    def _after_failure(self, known: Snapshot, fleet: float) -> float:
        policy = self._policy
        if known.stage is Stage.READY:
            if known.congested_in_row and fleet > policy.retry_steady_seconds:
                return self._backed_off(known, fleet)
            return self._jittered(policy.confirm_interval_seconds)
        failure = known.last_failure
        if failure is not None and failure.kind is FailureKind.PERMANENT:
            return self._jittered(policy.permanent_retry_seconds)
        if known.congested_in_row:
            return self._backed_off(known, fleet)
        step = self._ramp(known)
        return self._jittered(step) if step >= fleet else self._spread(fleet)

    def steady_seconds(self) -> float:
        """The delay after an answer in ready, where nothing else matters."""
        return self._jittered(self._policy.probe_interval_seconds)

    def spread_seconds(self, known: Snapshot) -> float:
        """How long to wait before a new connection when the old one has just been closed.

        A server that stops closes the connections of the whole fleet at once, and may be back in a
        moment.
        """
        fleet = self._fleet.seconds()
        if known.failures_in_row or fleet <= self._policy.retry_steady_seconds:
            return 0.0
        # No loss may be noticed later than that of a server that falls silent.
        return self._random.uniform(0.0, min(fleet, self._policy.attempt_timeout_seconds))

    def _spread(self, fleet: float) -> float:
        if self._is_spread:
            return self._jittered(fleet)
        self._is_spread = True
        return self._random.uniform(0.0, fleet)

    def _ramp(self, known: Snapshot) -> float:
        policy = self._policy
        exponent = min(known.failures_in_row - 1, 64) + self._phase
        try:
            step = policy.retry_first_seconds * policy.retry_growth**exponent
        except OverflowError:
            step = math.inf
        return self._lengthened(min(step, policy.retry_steady_seconds), known)

    def _lengthened(self, step: float, known: Snapshot) -> float:
        """The step, or the share of the outage if that is longer."""
        policy = self._policy
        if known.outage_since is not None:
            outage = known.last_at - known.outage_since
            step = max(step, outage * policy.retry_outage_fraction)
        return min(step, policy.retry_cap_seconds)

    def _backed_off(self, known: Snapshot, fleet: float) -> float:
        """A random wait of one step on average, which doubles with each congested failure.

        Only congested failures count. How long a server was away says nothing about its load now,
        and an instance that waited long must not be treated as if it had failed often.
        """
        self._is_spread = True
        step = max(self._lengthened(self._policy.retry_steady_seconds, known), fleet)
        in_row = self._of_this_kind(known)
        most = self._policy.congestion_cap_seconds
        if self._is_full:
            step *= _FULL_GROWTH ** min(in_row - 1, _MOST_GROWN)
            jitter = self._random.uniform(1 - _FULL_JITTER, 1 + _FULL_JITTER)
            return min(step, max(most, fleet)) * jitter
        doubled = step * 2.0 ** (min(in_row, _MOST_DOUBLED) - 1)
        return self._random.uniform(0.0, min(2 * doubled, max(most, _MOST_STEPS * fleet)))

    def _of_this_kind(self, known: Snapshot) -> int:
        """How many congested failures in a row were of the same kind as the last one.

        It may be called twice for one failure.
        """
        failure = known.last_failure
        is_full = failure is not None and "Timeout" not in failure.error_type
        if known.congested_in_row == 1:
            self._others_in_row = 0
        elif is_full is not self._is_full:
            self._others_in_row = known.congested_in_row - 1
        self._is_full = is_full
        return known.congested_in_row - self._others_in_row

    def _jittered(self, seconds: float) -> float:
        share = self._policy.retry_jitter
        return seconds * self._random.uniform(1 - share, 1 + share)
