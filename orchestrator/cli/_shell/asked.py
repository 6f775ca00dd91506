"""What `wait` and `run` ask: Redis where one is named, and any number of checks beside it.

The first that must answer is the orchestrator's own probe: Redis, else the first check. All others
are conditions, asked side by side.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from orchestrator import (
    Account,
    Check,
    ConditionSpec,
    Explanation,
    Orchestrator,
    Probe,
    ProbeResult,
    Stage,
    StepKind,
)
from orchestrator._core.parent_report import keep_quiet
from orchestrator._ports import Target
from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.startup import probe_for, settings_for
from orchestrator.settings import CHECK_VARIABLES, PREFIX, Settings
from states import Failure, FailureKind, Policy
from states._records import record


class CountedProbe(Probe):
    """A probe of which every attempt is seen.

    Args:
        name: The name of its check.
        probe: What is asked.

    Attributes:
        attempts: How many have ended.
        last_failure: Why the last one that failed did; `None` if none ever did.
        failing: Whether the last one failed.
        required: Whether it must answer.
        ended: Called after each attempt.
    """

    def __init__(self, name: str, probe: Probe) -> None:
        self.name = name
        self.attempts = 0
        self.last_failure: Failure | None = None
        self.failing = False
        self.required = True
        self.ended: Callable[[CountedProbe], None] = lambda _: None
        self.overtime_seconds: float = probe.overtime_seconds
        self.connects_per_second: float = probe.connects_per_second
        self._probe = probe

    def prepare(self, policy: Policy) -> None:
        """Pass it on."""
        self._probe.prepare(policy)

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Ask, and count."""
        result = await self._probe.attempt(timeout_seconds)
        self.attempts += 1
        self.failing = result.failure is not None
        self.last_failure = result.failure or self.last_failure
        self.ended(self)
        return result

    async def changed(self) -> None:
        """Pass it on."""
        await self._probe.changed()

    @property
    def target(self) -> Target:
        """What is asked."""
        return self._probe.target

    async def aclose(self) -> None:
        """Pass it on."""
        await self._probe.aclose()

    @property
    def answers(self) -> bool:
        """Whether the last attempt succeeded. Its condition may hear of it a moment later."""
        return self.attempts > 0 and not self.failing

    @property
    def is_permanent(self) -> bool:
        """Whether it must answer, and waiting won't help."""
        failure = self.last_failure if self.failing and self.required else None
        return failure is not None and failure.kind is FailureKind.PERMANENT


@record
class Asked:
    """All that is asked.

    Attributes:
        settings: The settings in force.
        probe: What the orchestrator itself asks.
        name: What that is called in a list; it is Redis where this is empty.
        conditions: The checks beside it.
        counted: Their probes.
    """

    settings: Settings
    probe: Probe
    name: str
    conditions: Sequence[ConditionSpec]
    counted: Sequence[CountedProbe]

    @property
    def main(self) -> str:
        """What the orchestrator itself asks, for a person."""
        return self.name or place(self.probe.target)

    def reasons(self, known: Explanation) -> list[str]:
        """Why it is not ready: a line for each that must answer and does not.

        Where waiting won't help with some, only these.
        """
        failing = [
            (one.is_permanent, f"{one.name}: {why(one)}")
            for one in self.counted
            if one.required and not known.conditions[one.name].satisfied
        ]
        failure = known.last_failure
        if known.stage is Stage.PROBING_REDIS or known.failures_in_row or not failing:
            text = failure.reason if failure is not None else "no attempt had ended"
            permanent = failure is not None and failure.kind is FailureKind.PERMANENT
            failing.insert(0, (permanent, f"{self.name}: {text}" if self.name else text))
        final = [text for permanent, text in failing if permanent]
        return final or [text for _, text in failing]


def why(one: CountedProbe) -> str:
    """Why a check does not hold."""
    return one.last_failure.reason if one.last_failure is not None else "no attempt had ended"


def place(target: Target) -> str:
    """Where Redis is, for a person."""
    port = "" if target.port is None else f":{target.port}"
    return f"redis at {target.address}{port}"


def asked_for(
    redis_url: str | None,
    timeout_seconds: float | None,
    checks: Sequence[str] | None,
    optional: Sequence[str] | None,
    environ: Mapping[str, str] = os.environ,
) -> Asked:
    """What the command line and the environment say is to be asked.

    Options for checks go before their variables. Redis is asked where one is named, and at its
    default address only where nothing else must answer.

    Raises:
        UserError: When any of it cannot be used.
    """
    lists = {"--check": checks or (), "--optional": optional or ()}
    if not (checks or optional):
        lists = {variable: environ.get(variable, "").split() for variable in CHECK_VARIABLES}
    rest = {name: text for name, text in environ.items() if name not in CHECK_VARIABLES}
    settings = settings_for(redis_url, timeout_seconds, rest)
    counted: dict[str, CountedProbe] = {}

    def count(name: str, probe: Probe) -> Probe:
        counted[name] = CountedProbe(name, probe)
        return counted[name]

    conditions = _conditions_of(lists, settings, count) if any(lists.values()) else []
    for condition in conditions:
        if condition.name in counted:
            counted[condition.name].required = condition.required
    first = next((one for one in conditions if one.required and isinstance(one, Check)), None)
    named_by = _what_names_redis(redis_url, environ)
    if first is None or named_by:
        probe = probe_for(settings.redis_url, named_by)
        return Asked(settings, probe, "", conditions, list(counted.values()))
    conditions.remove(first)
    del counted[first.name]
    return Asked(settings, first.probe, first.name, conditions, list(counted.values()))


def _conditions_of(
    lists: Mapping[str, Sequence[str]], settings: Settings, count: Callable[[str, Probe], Probe]
) -> list[ConditionSpec]:
    # It knows every kind of probe, and nobody may ask for any.
    from orchestrator.settings._check_list import CheckList, CheckListError

    made = CheckList(settings.policy, count, lenient=not settings.enabled)
    conditions: list[ConditionSpec] = []
    try:
        for number, (source, items) in enumerate(lists.items()):
            conditions += made.add(items, source, required=number == 0)
    except CheckListError as error:
        raise UserError(str(error)) from None
    return conditions


def account_of(asked: Asked, startup: Orchestrator) -> Account:
    """The account, with the name that the other lines have for what the orchestrator asks."""
    account = startup.account()
    probes = [step for step in account.steps if step.kind is StepKind.PROBE]
    if not asked.name or not probes:
        return account
    last = asked.name if account.last_to_hold == probes[0].name else account.last_to_hold
    named = (replace(one, name=asked.name) if one in probes else one for one in account.steps)
    return replace(account, steps=tuple(named), last_to_hold=last)


def _what_names_redis(redis_url: str | None, environ: Mapping[str, str]) -> str:
    """The option or the variable that says where Redis is; empty where none does."""
    if redis_url:
        return "--redis"
    variables = (f"{PREFIX}REDIS_URL", "REDIS_URL")
    return next((name for name in variables if environ.get(name, "").strip()), "")


def orchestrator_of(asked: Asked) -> Orchestrator:
    """An orchestrator that asks all of it."""
    settings = asked.settings
    keep_quiet()
    return Orchestrator(
        asked.probe,
        policy=settings.policy,
        conditions=asked.conditions,
        enabled=settings.enabled,
    )
