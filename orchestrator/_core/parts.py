"""What an orchestrator is made of, checked where it is given."""

import math
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from orchestrator._core.companions import Companion
from orchestrator._core.drain import DrainParts
from orchestrator._core.keeping import KeptCondition, order_of
from orchestrator._hardening.arguments import require, require_items, wrong_type
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock, Observer, Probe, StartupContext, Target
from orchestrator._runtime.clock import LoopClock
from states import Policy, Stage, StartupMachine
from states._records import record

_NEW_SECONDS = 60.0
"""A process that is older than this on entering has done more than import and set up."""

_IDLE_SHARE = 0.1
"""Imports use the processor. A process that did so for a smaller part of its life has waited for
something: `exec` keeps the age of a process, and a shell, or our own `wait`, may have become the
service."""


def _idled_through(age_seconds: float) -> bool:
    return time.process_time() < _IDLE_SHARE * age_seconds


@record
class Parts:
    """What a start-up is made of.

    Attributes:
        probe: What is asked.
        policy: Thresholds and durations.
        conditions: The declared conditions, and whether each is required.
        kept: Those that keep themselves.
        observers: What sees every fact.
        companions: What runs beside it from its beginning.
        drain: What takes part in its drain.
        clock: Where time comes from.
        random: The source of jitter; seeded by the system if not given.
        enabled: Whether the orchestrator is.
        first: Whether it is the first start-up of this process. A later one begins when it is
            entered, and not with the process.
    """

    probe: Probe
    policy: Policy
    conditions: Mapping[str, bool]
    kept: Mapping[str, KeptCondition]
    observers: Sequence[Observer]
    companions: Sequence[Companion]
    drain: DrainParts
    clock: Clock
    random: Random | None
    enabled: bool
    first: bool

    def in_force(self) -> "Parts":
        """These; where the orchestrator is disabled, nothing is asked or required."""
        if self.enabled:
            return self
        logger.warning(
            "the startup orchestrator is disabled: nothing is probed, every client is admitted"
        )
        policy = Policy(
            platform=self.policy.platform,
            grace_seconds=0.0,
            drain_close_seconds=0.0,
            drain_limit_seconds=0.0,
        )
        conditions = dict.fromkeys(self.conditions, False)
        kept = {name: its for name, spec in self.kept.items() if (its := spec.in_rollback())}
        from orchestrator._probing.always_answers import AlwaysAnswers

        probe = AlwaysAnswers()
        return replace(self, probe=probe, policy=policy, conditions=conditions, kept=kept)

    def context(self, target: Target, started_at: float, machine: StartupMachine) -> StartupContext:
        """What observers get before the first fact."""
        # Side by side: any time between these two readings makes every date wrong by as much.
        now, unix_nanoseconds = self.clock.now(), time.time_ns()
        after = order_of(self.kept)
        targets = {name: spec.target for name, spec in self.kept.items()}
        is_new = self.first and now - started_at <= _NEW_SECONDS and not hasattr(sys, "ps1")
        if isinstance(self.clock, LoopClock) and _idled_through(now - started_at):
            is_new = False
        return StartupContext(
            self.policy,
            target,
            self.conditions,
            started_at,
            now,
            unix_nanoseconds,
            self.enabled,
            after,
            is_new,
            lambda: machine.snapshot.waits_for,
            {name: target for name, target in targets.items() if target is not None},
        )


def check_parts(
    probe: Probe, policy: Policy | None, clock: Clock | None, random: Random | None
) -> None:
    """Look at the parts of an orchestrator.

    Raises:
        TypeError: When one is of the wrong type. The text never holds its value: a URL that was
            given in place of a probe may have a password in it.
    """
    given: object = probe
    if not isinstance(given, Probe):
        raise wrong_type(given, "probe", "Probe", "write Orchestrator(RedisProbe(url))")
    if policy is not None:
        require(policy, Policy, "policy", "write policy=Policy(grace_seconds=0.5)")
    if clock is not None and not _tells_time(clock):
        raise wrong_type(clock, "clock", "a Clock with its three methods", "give an instance")
    if random is not None:
        require(random, Random, "random", "write random=random.Random(seed)")


def _tells_time(clock: Clock) -> bool:
    methods = (getattr(clock, name, None) for name in ("now", "started_at", "cancel_at"))
    return not isinstance(clock, type) and all(map(callable, methods))


def observers_of(given: Iterable[Observer]) -> list[Observer]:
    """A list of the observers.

    Raises:
        TypeError: When it holds anything but instances of `Observer`.
    """
    write = "write observers=[MyObserver()], a list of instances of subclasses of Observer"
    items = require_items(given, "observers", "a list", write)
    return [require(one, Observer, "an observer", write) for one in items]


def stages_of(given: tuple[Stage, ...]) -> frozenset[Stage]:
    """The stages in which a callback is called.

    Raises:
        TypeError: When one is no stage but, say, the callback itself.
        ValueError: When there are none, or none of that name.
    """
    if not given:
        raise ValueError("on() needs at least one stage: on(Stage.READY)")
    for stage in given:
        require(stage, str, "a stage", "write @startup.on(Stage.READY), with the parentheses")
    return frozenset(map(Stage, given))


def waited_for(stage: Stage, timeout_seconds: float | None) -> tuple[Stage, float | None]:
    """A stage that can be waited for, and for how long.

    Raises:
        TypeError: When they are no stage and no number.
        ValueError: For `booting`, to which no event leads, for what no stage is called, and for
            NaN, which is never reached.
    """
    stage = Stage(require(stage, str, "the stage", "write wait_for(Stage.READY)"))
    if stage is Stage.BOOTING:
        raise ValueError("no event leads to booting: it is where every start-up begins")
    limit: object = timeout_seconds
    if limit is None:
        return stage, None
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        wanted = "a number of seconds, or None"
        raise wrong_type(limit, "timeout_seconds", wanted, "write timeout_seconds=5.0")
    if math.isnan(limit):
        raise ValueError("timeout_seconds is NaN: give a number of seconds, or None for no limit")
    return stage, limit


def target_of(probe: Probe) -> Target:
    """What a probe asks; unknown if that raises, which must not end a start-up."""
    try:
        return require(probe.target, Target, "target", "return a Target")
    except Exception as error:  # only its type is shown: its text may hold a secret
        what = type(error).__name__
        logger.error("the target of a %s is not known: %s", type(probe).__name__, what)
        return Target(system="")
