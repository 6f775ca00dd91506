"""Refuses what an orchestrator cannot be made of, or asked for, where it is given."""

from collections.abc import Iterable
from random import Random

from orchestrator._hardening.arguments import require, require_items, wrong_type
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock, Observer, Probe, Target
from states import Policy, Stage


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
    """Observers as a list of its own.

    Raises:
        TypeError: When there is something else than instances of `Observer` in it.
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


def reachable(stage: Stage) -> Stage:
    """A stage that can be waited for.

    Raises:
        TypeError: When it is no stage.
        ValueError: For `booting`, to which no event leads, and for what no stage is called.
    """
    stage = Stage(require(stage, str, "the stage", "write wait_for(Stage.READY)"))
    if stage is Stage.BOOTING:
        raise ValueError("no event leads to booting: it is where every start-up begins")
    return stage


def target_of(probe: Probe) -> Target:
    """What a probe asks; unknown where it does not say so, which ends no start-up."""
    try:
        return require(probe.target, Target, "target", "return a Target")
    except Exception as error:  # only the type is told: its text may hold a secret
        what = type(error).__name__
        logger.error("the target of a %s is not known: %s", type(probe).__name__, what)
        return Target(system="")
