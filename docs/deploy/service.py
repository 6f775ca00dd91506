"""The chat that `compose.yaml` runs: gated, traced and measured.

Run it with `uvicorn service:app`. It sends to `OTEL_EXPORTER_OTLP_ENDPOINT`.
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from orchestrator import Orchestrator
from orchestrator.asgi import ReadinessGate, lifespan
from orchestrator.otel import (
    OpenTelemetryGateMetrics,
    OpenTelemetryObserver,
    setup_telemetry,
)
from orchestrator.redis import RedisProbe
from orchestrator.settings import Settings

logging.basicConfig(level=logging.INFO)  # or changes of stage and trace ids are not shown
settings = Settings.from_environment()
telemetry = setup_telemetry(os.environ.get("OTEL_SERVICE_NAME", "chat"))
startup = Orchestrator(
    RedisProbe(settings.redis_url),
    policy=settings.policy,
    conditions=["chat-listener"],
    observers=[OpenTelemetryObserver()],
    enabled=settings.enabled,  # ORCHESTRATOR_ENABLED=false is the rollback
)


async def listen() -> None:
    """Stands for a task that the chat needs, and that takes a moment to come up."""
    await anyio.sleep(1.0)
    with startup.condition("chat-listener"):
        await anyio.sleep_forever()


@asynccontextmanager
async def background(_: Starlette) -> AsyncIterator[None]:
    """The application's own lifespan, inside the orchestrator's."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        yield
        tasks.cancel_scope.cancel()


async def chat(websocket: WebSocket) -> None:
    """Send the stage: behind the gate it is always ready."""
    await websocket.accept()
    await websocket.send_text(startup.stage)
    await websocket.close()


routes = [WebSocketRoute("/chat", chat)]
chat_app = Starlette(routes=routes, lifespan=lifespan(startup, inner=background))
app = ReadinessGate(chat_app, startup, health=True, metrics=OpenTelemetryGateMetrics())
