"""A Starlette chat that also waits for its background task.

Run it with `uvicorn starlette_app:app`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from orchestrator import Orchestrator
from orchestrator.asgi import ReadinessGate, lifespan
from orchestrator.redis import RedisProbe

probe = RedisProbe(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))
startup = Orchestrator(probe, conditions=["chat-listener"])


async def listen() -> None:
    """Stands for a task that the chat needs."""
    with startup.condition("chat-listener"):  # true while the task is in this block
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
app = ReadinessGate(chat_app, startup, health=True)
