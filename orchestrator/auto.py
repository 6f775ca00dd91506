"""The gate without a line of code: a server runs this module in place of the application's.

    REDIS_URL=redis://localhost:6379/0 ORCHESTRATOR_APP=chat:app uvicorn orchestrator.auto:app

Any ASGI server takes it, with its own options. The port opens at once; the application is imported
behind the gate and its clients are held, until its lifespan is up and Redis answers. `/livez`,
`/readyz` and `/startupz` are answered meanwhile and ever after. All else comes from the
environment: `AutoSettings`, `Settings` and, where a collector is named, OpenTelemetry's variables.

`app` is the gate around what `ORCHESTRATOR_APP` names. Without that variable, asking for `app`
raises `SettingsError`.
"""

import os
from collections.abc import Mapping

import anyio
import anyio.to_thread

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_endpoints import health_app
from orchestrator._gate.metrics import GateMetrics
from orchestrator._hardening.log_thread import logger
from orchestrator._http.asgi_types import ASGIApp
from orchestrator._ports import Observer, Probe
from orchestrator._probing.always_answers import AlwaysAnswers
from orchestrator.asgi import deferred
from orchestrator.asgi._import_string import ImportStringError
from orchestrator.pod import Pod
from orchestrator.settings import PREFIX, AutoSettings, Settings, SettingsError
from states import Stage, StageChanged

_COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT"


def create_app(environ: Mapping[str, str] = os.environ) -> ASGIApp:
    """The gate around the application that the environment names; what `app` is.

    Raises:
        SettingsError: When a variable is missing, or its value cannot be used.
    """
    auto, settings = AutoSettings.from_environment(environ), Settings.from_environment(environ)
    observers, metrics = _telemetry(environ) if settings.enabled else ([], None)
    if auto.fleet and settings.enabled:
        observers = [*observers, _fleet(settings, has_redis=auto.has_redis)]
    startup = Orchestrator(
        _probe(settings, has_redis=auto.has_redis),
        policy=settings.policy,
        conditions=settings.checks,
        observers=observers,
        enabled=settings.enabled,
    )
    if metrics is not None:
        startup.on(Stage.READY)(_set_up_telemetry)
    pod = Pod() if auto.pod and settings.enabled else None
    try:
        gate = deferred(
            auto.app,
            startup,
            import_on=auto.import_on,
            health=health_app(startup, details=auto.health_details, pod=pod),
            hold_seconds=auto.hold_seconds,
            max_held=auto.max_held,
            metrics=metrics,
        )
    except ImportStringError as error:
        raise SettingsError(f"{PREFIX}APP", auto.app, error.allowed) from None
    if not auto.page:
        return gate
    from orchestrator.web import web_app, web_mount

    return web_mount(gate, web_app(startup, gate=gate, title=auto.app, pod=pod), auto.page)


def _probe(settings: Settings, *, has_redis: bool) -> Probe:
    if has_redis:
        from orchestrator.redis import RedisProbe

        return RedisProbe(settings.redis_url)
    if settings.enabled:
        logger.warning(
            "neither REDIS_URL nor %sREDIS_URL is set: no Redis is asked, and the service is ready"
            " once its application is loaded",
            PREFIX,
        )
    return AlwaysAnswers()


def _fleet(settings: Settings, *, has_redis: bool) -> Observer:
    """Publishes this instance in the Redis that is asked.

    Raises:
        SettingsError: When there is no such Redis, or nothing names the service.
    """
    from orchestrator.fleet import Fleet

    if not has_redis:
        raise SettingsError(f"{PREFIX}FLEET", "true", "false where REDIS_URL is not set")
    try:
        return Fleet(settings.redis_url)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}FLEET", "true", "", text=f"{PREFIX}FLEET: {error}") from None


def _telemetry(environ: Mapping[str, str]) -> tuple[list[Observer], GateMetrics | None]:
    """What tells a collector of the start-up and of the gate, where one is named."""
    if not environ.get(_COLLECTOR, "").strip():
        return [], None
    from orchestrator.otel import OpenTelemetryGateMetrics, OpenTelemetryObserver

    return [OpenTelemetryObserver()], OpenTelemetryGateMetrics()


async def _set_up_telemetry(_: StageChanged) -> None:
    """Set up providers if the application, which is loaded now, has not done so itself."""
    from orchestrator.otel import setup_telemetry

    await anyio.to_thread.run_sync(setup_telemetry)  # it loads the SDK the first time


# Some servers look into the module instead of asking it: it has to be there.
if os.environ.get(f"{PREFIX}APP", "").strip():
    app: ASGIApp = create_app()
else:

    def __getattr__(name: str) -> object:
        """Say what is missing, to a server that asks for the application."""
        if name == "app":
            AutoSettings.from_environment()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
