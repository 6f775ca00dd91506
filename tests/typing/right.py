"""Right uses of the public interface: type checkers have nothing to say. Not run."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, assert_type

from orchestrator import (
    Condition,
    ConditionSpec,
    Explanation,
    Fact,
    Failure,
    Observer,
    Orchestrator,
    Platform,
    Policy,
    Probe,
    ProbeResult,
    Stage,
    StageChanged,
    Subscription,
)
from orchestrator.asgi import AdmissionCounts, ReadinessGate, health_app, lifespan
from orchestrator.otel import (
    OpenTelemetryGateMetrics,
    OpenTelemetryObserver,
    Telemetry,
    setup_telemetry,
)
from orchestrator.redis import RedisProbe
from orchestrator.settings import Settings, detect_platform
from orchestrator.settings.pydantic import OrchestratorSettings
from orchestrator.testing import ManualClock, Pretence, ScriptedProbe, StageLog, pretend
from orchestrator.web import web_app, web_mount, web_paths

settings = Settings.from_environment()
assert_type(settings, Settings)
assert_type(settings.policy, Policy)
assert_type(settings.redis_url, str)
assert_type(OrchestratorSettings(_env_file=".env").settings, Settings)
assert_type(detect_platform({"K_SERVICE": "chat"}), Platform)

policy = Policy.for_platform(Platform.CLOUD_RUN, grace_seconds=1, failures_to_degrade=2)
assert_type(policy, Policy)
assert_type(policy.failures_to_degrade, int)
assert_type(policy.budget_seconds, float)

startup = Orchestrator(
    RedisProbe(settings.redis_url),
    policy=settings.policy,
    conditions=["chat-listener", ConditionSpec("cache", required=False)],
    observers=[OpenTelemetryObserver(), StageLog()],
    enabled=settings.enabled,
)


class Own(Probe):
    """A probe of the application's own."""

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        return ProbeResult(latency_seconds=timeout_seconds / 2)


class Watcher(Observer):
    """An observer of the application's own."""

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        assert_type(fact.at, float)
        assert_type(changed.current if changed else None, Stage | None)


@startup.on(Stage.READY, Stage.DEGRADED)
def told(changed: StageChanged) -> None:
    assert_type(changed.previous, Stage)
    assert_type(changed.elapsed_seconds, float)


@startup.on()
async def told_later(changed: StageChanged) -> None:
    assert_type(changed.cause, Fact)


@asynccontextmanager
async def background(_app: object) -> AsyncGenerator[dict[str, int]]:
    yield {"rooms": 3}


async def use() -> None:
    async with startup as entered:
        assert_type(entered, Orchestrator)
        assert_type(await startup.wait_for(Stage.READY, timeout_seconds=5), StageChanged)
        with startup.condition("chat-listener") as condition:
            assert_type(condition, Condition)
        subscription = startup.subscribe()
        assert_type(subscription, Subscription)
        async for changed in subscription:
            assert_type(changed, StageChanged)
    assert_type(startup.explain(), Explanation)
    result = await ScriptedProbe("refused, ok").attempt(1)
    assert_type(result.failure, Failure | None)


async def application(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Mapping[str, Any]]],
    send: Callable[[Mapping[str, Any]], Awaitable[None]],
) -> None:
    await send({"type": scope["type"], "body": await receive()})


telemetry = setup_telemetry()
assert_type(telemetry, Telemetry)
gate = ReadinessGate(
    application,
    startup=startup,
    health=True,
    hold_seconds=3,
    limits={"/chat": 10},
    metrics=OpenTelemetryGateMetrics(),
)
assert_type(gate.counts, AdmissionCounts)
assert_type(gate.closes, Counter[int | str])
lifespan(startup, background)
health_app(startup)
web_mount(gate, web_app(startup, gate=gate))
assert_type(web_paths(), tuple[str, ...])
assert_type(ManualClock().now(), float)
assert_type(pretend(startup, "degraded"), Pretence)
