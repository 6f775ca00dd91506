"""A whole start-up in virtual time, put together."""

from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

from orchestrator._core.conditions import ConditionSpec
from orchestrator._core.orchestrator import Orchestrator
from orchestrator.testing._manual_clock import ManualClock
from orchestrator.testing._scripted_probe import ScriptedProbe
from orchestrator.testing._stage_log import StageLog
from states import Failure, Policy


@dataclass(frozen=True, slots=True)
class VirtualStartup:
    """An orchestrator and what it was given.

    Attributes:
        startup: The orchestrator; `async with run.startup:` enters it.
        redis: What Redis does; `run.redis.then("refused")` changes it.
        clock: The time; `await run.clock.advance(5)` lets it pass.
        stages: What was seen; `run.stages.assert_went(...)`.
    """

    startup: Orchestrator
    redis: ScriptedProbe
    clock: ManualClock
    stages: StageLog


def virtual_startup(
    script: str | Iterable[Failure | str | None] = "ok",
    *,
    policy: Policy | None = None,
    conditions: Iterable[str | ConditionSpec] = (),
    age_seconds: float = 0.0,
    clock: ManualClock | None = None,
) -> VirtualStartup:
    """An orchestrator whose Redis follows a script, and whose time moves on command.

    It is the same each time: jitter has a fixed seed.

    Args:
        script: What Redis does, such as `"refused x3, loading 5s, ok"`; see `ScriptedProbe`.
        policy: As for `Orchestrator`.
        conditions: As for `Orchestrator`.
        age_seconds: How long ago the process started: what `booting` lasts.
        clock: The time, where there is one already.

    Raises:
        ScriptError: When the script is not in the language.
    """
    time = clock or ManualClock(age_seconds=age_seconds)
    redis, stages = ScriptedProbe(script, clock=time), StageLog()
    startup = Orchestrator(
        redis,
        policy=policy,
        conditions=conditions,
        observers=[stages],
        clock=time,
        random=Random(0),
    )
    return VirtualStartup(startup, redis, time, stages)
