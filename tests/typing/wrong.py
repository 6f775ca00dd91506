"""Wrong uses of the public interface: type checkers name each. Not run.

Each ignore is a proof: mypy complains of one that is not needed, and the test beside this file sees
that pyright, without them, finds what they name and nothing else.
"""

from orchestrator import ConditionSpec, Orchestrator, Platform, Policy, Probe, Stage, StageChanged
from orchestrator.asgi import ReadinessGate, health_app, lifespan
from orchestrator.redis import RedisProbe
from orchestrator.settings import Settings
from orchestrator.settings.pydantic import OrchestratorSettings
from orchestrator.testing import ScriptedProbe

startup = Orchestrator(ScriptedProbe("ok"))

# A field of the policy is misspelt, or of another type, or the platform is given twice.
Policy.for_platform(Platform.OTHER, budget_second=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Policy.for_platform(Platform.OTHER, budget_seconds="3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Policy.for_platform(Platform.OTHER, failures_to_degrade=2.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Policy.for_platform("other")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Policy(grace_second=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Policy(30.0)  # type: ignore[arg-type, call-arg]  # pyright: ignore[reportCallIssue]

# A policy is not changed, and neither are settings.
Policy().grace_seconds = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
Settings.from_environment().enabled = False  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]

# An orchestrator needs a probe, and only that without its name.
Orchestrator()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Orchestrator("redis://localhost")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Orchestrator(ScriptedProbe("ok"), Policy())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Orchestrator(ScriptedProbe("ok"), policies=Policy())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Orchestrator(ScriptedProbe("ok"), conditions=[3])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
ConditionSpec("cache", wanted=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# An observer of stages takes one.
@startup.on("ready")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
def told(changed: StageChanged) -> None: ...


@startup.on(Stage.READY)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportUntypedFunctionDecorator]
def told_nothing() -> None: ...


class Half(Probe):
    """A probe without an attempt."""


Half()  # type: ignore[abstract]  # pyright: ignore[reportAbstractUsage]

# The gate's options are known by name.
ReadinessGate(startup=startup)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
ReadinessGate(health_app(startup), startup=startup, hold=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
lifespan()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
RedisProbe(6379)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
RedisProbe(OrchestratorSettings().settings.redis_uri)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]


async def use() -> None:
    await startup.wait_for("ready")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await startup.wait_for(Stage.READY, 5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    startup.wait_for(Stage.READY)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
