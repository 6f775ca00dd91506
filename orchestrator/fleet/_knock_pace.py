"""When to ask Redis again after it has failed us. Pure, but for chance.

The probe has a pace that lets a whole fleet come back without a herd. The publisher must not cause
one, so it tries only after the probe has succeeded, and a random part of the probe's step later.
With a Redis of its own it keeps the probe's pace itself.
"""

import math
from dataclasses import replace
from random import Random

from orchestrator._probing.fleet_step import FleetStep
from orchestrator._probing.pacing import Pacer
from states import Failure, FailureKind, Policy, Stage, StartupMachine

_LASTING_SECONDS = 30.0
"""How often to retry what waiting won't help: a permission may be granted meanwhile."""


class KnockPace:
    """The pace of one start-up's publisher.

    Args:
        policy: The probe's pace.
        step: How long a step must be for the whole fleet.
        follows_probe: Whether it asks the Redis that the probe asks.
        random: The source of chance.

    Attributes:
        next_at: When Redis may be asked; it may be now.
        in_row: How many times in a row it has failed.
    """

    def __init__(
        self,
        policy: Policy,
        step: FleetStep,
        *,
        follows_probe: bool,
        random: Random | None = None,
    ) -> None:
        self._policy = policy
        self._random = random or Random()
        self._step = step
        self._pacer = Pacer(policy, self._random, step)
        nothing = StartupMachine(policy, {}, 0.0).snapshot
        self._known = self._nothing = replace(nothing, stage=Stage.PROBING_REDIS)
        self._follows_probe = follows_probe
        self._probe_answers = not follows_probe
        self.next_at = -math.inf
        self.in_row = 0

    def apart(self) -> "KnockPace":
        """Another one of this pace, for something that is asked on an open connection."""
        return KnockPace(self._policy, self._step, follows_probe=False, random=self._random)

    @property
    def waits_for_probe(self) -> bool:
        """Whether it waits until the probe has got in."""
        return not self._probe_answers

    def see_probe(self, now: float, *, answers: bool) -> None:
        """The probe has made an attempt."""
        if not self._follows_probe:
            return
        if answers and not self._probe_answers:
            step = max(self._policy.retry_steady_seconds, self._step.seconds())
            self.next_at = max(self.next_at, now + self._random.uniform(0.0, step))
        self._probe_answers = answers

    def succeeded(self) -> None:
        """Redis has done what it was asked."""
        self._known = self._nothing
        self.in_row = 0
        self.next_at = -math.inf

    def failed(self, now: float, failure: Failure) -> None:
        """Redis has not."""
        self.in_row += 1
        if failure.kind is FailureKind.PERMANENT:
            self.next_at = now + _LASTING_SECONDS * self._random.uniform(0.9, 1.1)
            return
        before = self._known
        self._known = replace(
            before,
            last_at=now,
            failures_in_row=before.failures_in_row + 1,
            congested_in_row=before.congested_in_row + 1 if failure.congestion else 0,
            last_failure=failure,
            outage_since=now if before.outage_since is None else before.outage_since,
        )
        self.next_at = now + self._pacer.delay_seconds(self._known)
