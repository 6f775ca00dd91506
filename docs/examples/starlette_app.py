"""A Starlette chat that also waits for its background task.

Run it with `uvicorn starlette_app:app`.
"""

import os

import anyio
from anyio.abc import TaskStatus
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from orchestrator import Orchestrator, Task
from orchestrator.asgi import ReadinessGate, lifespan
from orchestrator.redis import RedisProbe


async def listen(*, task_status: TaskStatus[None]) -> None:
    """Stands for a task that the chat needs; it is started again when it ends."""
    task_status.started()  # from now on it is up
    await anyio.sleep_forever()


probe = RedisProbe(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))
startup = Orchestrator(probe, conditions=[Task("chat-listener", listen, after=["redis"])])


async def chat(websocket: WebSocket) -> None:
    """Send the stage: behind the gate it is always ready."""
    await websocket.accept()
    await websocket.send_text(startup.stage)
    await websocket.close()


routes = [WebSocketRoute("/chat", chat)]
chat_app = Starlette(routes=routes, lifespan=lifespan(startup))
app = ReadinessGate(chat_app, startup, health=True)
