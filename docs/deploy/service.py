"""The chat that `compose.yaml` runs: gated, traced and measured.

Run it with `uvicorn service:app`. It sends to `OTEL_EXPORTER_OTLP_ENDPOINT`.
"""

import logging
import os

import anyio
from anyio.abc import TaskStatus
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from orchestrator import Orchestrator, Task
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


async def listen(*, task_status: TaskStatus[None]) -> None:
    """Stands for a task that the chat needs, and that takes a moment to come up."""
    await anyio.sleep(1.0)
    task_status.started()
    await anyio.sleep_forever()


telemetry = setup_telemetry(os.environ.get("OTEL_SERVICE_NAME", "chat"))
startup = Orchestrator(
    RedisProbe(settings.redis_url),
    policy=settings.policy,
    conditions=[*settings.checks, Task("chat-listener", listen, after=["redis"])],
    observers=[OpenTelemetryObserver()],
    enabled=settings.enabled,  # ORCHESTRATOR_ENABLED=false is the rollback
)


async def chat(websocket: WebSocket) -> None:
    """Send the stage: behind the gate it is always ready."""
    await websocket.accept()
    await websocket.send_text(startup.stage)
    await websocket.close()


routes = [WebSocketRoute("/chat", chat)]
chat_app = Starlette(routes=routes, lifespan=lifespan(startup))
app = ReadinessGate(chat_app, startup, health=True, metrics=OpenTelemetryGateMetrics())
