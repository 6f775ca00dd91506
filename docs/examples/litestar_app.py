"""A Litestar chat that holds its clients until Redis answers.

Run it with `uvicorn litestar_app:app`.
"""

import os
from typing import Any

from litestar import Litestar, WebSocket, websocket

from orchestrator import Orchestrator
from orchestrator.asgi import ReadinessGate
from orchestrator.redis import RedisProbe

startup = Orchestrator(RedisProbe(os.environ.get("REDIS_URL", "redis://localhost:6379/0")))


@websocket("/chat")
async def chat(socket: WebSocket[Any, Any, Any]) -> None:
    """Send the stage: behind the gate it is always ready."""
    await socket.accept()
    await socket.send_text(startup.stage)
    await socket.close()


app = ReadinessGate(Litestar([chat]), startup, manage_lifespan=True, health=True)
