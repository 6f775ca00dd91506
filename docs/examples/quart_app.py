"""A Quart chat that holds its clients until Redis answers.

Run it with `uvicorn quart_app:app`.
"""

import os

from quart import Quart, websocket

from orchestrator import Orchestrator
from orchestrator.asgi import ReadinessGate
from orchestrator.redis import RedisProbe

startup = Orchestrator(RedisProbe(os.environ.get("REDIS_URL", "redis://localhost:6379/0")))
quart_app = Quart(__name__)


@quart_app.websocket("/chat")
async def chat() -> None:
    """Send the stage: behind the gate it is always ready."""
    await websocket.send(startup.stage)


app = ReadinessGate(quart_app, startup, manage_lifespan=True, health=True)
