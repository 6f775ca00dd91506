"""The service of `demo --full`: a chat that needs Redis, a database, an upstream and two tasks."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

from anyio.abc import TaskStatus
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute

from orchestrator import (
    Check,
    ConditionSpec,
    Observer,
    Orchestrator,
    Probe,
    Stage,
    StartupContext,
    Task,
)
from orchestrator.asgi import HEALTH_PATHS, ReadinessGate, health_app
from orchestrator.checks import http
from orchestrator.cli.demo.apps import GatedService, SendReport, StageReporter, policy_of
from orchestrator.cli.demo.full.falls import (
    CHECK_INTERVAL_SECONDS,
    CHECK_TIMEOUT_SECONDS,
    STALE_SECONDS,
)
from orchestrator.cli.demo.reports import (
    AccountReport,
    ConditionReport,
    OrderReport,
    ServiceOptions,
)
from orchestrator.otel import OpenTelemetryObserver
from orchestrator.redis import RedisProbe
from orchestrator.settings._check_list import probe_of
from orchestrator.web import web_app, web_paths
from states import ConditionChanged, Fact, StageChanged

DATABASE, UPSTREAM, LISTENER, OUTBOX = "database", "billing", "chat-listener", "outbox"
PAGE = "/startup"
HANG = signal.SIGUSR1
"""Makes the outbox hang, which gives no sign from then on."""

_WORK_SECONDS = 0.1
_OUTBOX_READS_SECONDS = 0.3


class FullService(GatedService):
    """With checks and tasks as well."""

    def _make_startup(self, options: ServiceOptions, send: SendReport) -> Orchestrator:
        self._runs = 0
        self._hangs = False
        startup = Orchestrator(
            RedisProbe(options.redis_url),
            # It falls again and again here; that is no flapping.
            policy=replace(policy_of(options), flap_window_seconds=0.0),
            conditions=self._conditions(options),
            observers=[
                StageReporter(send),
                _ConditionReporter(send),
                OpenTelemetryObserver(tracer_provider=self._tracing.provider),
            ],
        )

        @startup.on(Stage.READY)
        def account(event: StageChanged) -> None:
            send(AccountReport(event.at, str(startup.account())))

        return startup

    def _make_gate(self) -> ReadinessGate:
        startup = self._startup
        chat = Starlette(
            routes=[
                WebSocketRoute("/chat", self._chat.handle),
                Mount(PAGE, web_app(startup, title="The demo's chat")),
                Mount("/", health_app(startup)),
            ],
            lifespan=self._lifespan,
        )
        return ReadinessGate(chat, startup, bypass=[*HEALTH_PATHS, *web_paths(PAGE)])

    def _conditions(self, options: ServiceOptions) -> list[ConditionSpec]:
        asked: dict[str, Probe] = {UPSTREAM: http(options.upstream_url)}
        if options.database_url:
            asked = {DATABASE: probe_of(options.database_url), **asked}
        checks = [
            Check(
                name,
                probe,
                interval_seconds=CHECK_INTERVAL_SECONDS,
                timeout_seconds=CHECK_TIMEOUT_SECONDS,
            )
            for name, probe in asked.items()
        ]
        return [
            *checks,
            Task(LISTENER, self._chat.listen, after=["redis"]),
            Task(
                OUTBOX,
                self._send_outbox,
                after=[check.name for check in checks],
                stale_seconds=STALE_SECONDS,
            ),
        ]

    async def _send_outbox(self, *, task_status: TaskStatus[None]) -> None:
        """Stands for a task that sends on what the database has; its first run fails."""
        self._runs += 1
        if self._runs == 1:
            raise ConnectionError("the first run of the outbox fails, as was ordered")
        await asyncio.sleep(_OUTBOX_READS_SECONDS)
        task_status.started()
        while True:
            if self._hangs:
                self._hangs = False
                await asyncio.Event().wait()
            self._startup.condition(OUTBOX).beat()
            await asyncio.sleep(_WORK_SECONDS)

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncGenerator[None]:
        asyncio.get_running_loop().add_signal_handler(HANG, setattr, self, "_hangs", True)
        async with super()._lifespan(app):
            yield


class _ConditionReporter(Observer):
    """Tells the demo which condition holds, and which come after which."""

    def __init__(self, send: SendReport) -> None:
        self._send = send
        self._holds: dict[str, bool] = {}

    def started(self, context: StartupContext) -> None:
        """Report the order."""
        after = {name: list(names) for name, names in context.after.items()}
        self._send(OrderReport(time.monotonic(), after))

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Report what changes."""
        if isinstance(fact, ConditionChanged) and self._holds.get(fact.name) != fact.satisfied:
            self._holds[fact.name] = fact.satisfied
            self._send(ConditionReport(fact.at, fact.name, fact.satisfied, fact.reason))
