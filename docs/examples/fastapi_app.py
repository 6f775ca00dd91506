"""A FastAPI chat that holds its clients until Redis answers.

Run it with `uvicorn fastapi_app:app`.
"""

import os

from fastapi import FastAPI, WebSocket

from orchestrator import Orchestrator
from orchestrator.asgi import ReadinessGate, lifespan
from orchestrator.redis import RedisProbe

startup = Orchestrator(RedisProbe(os.environ.get("REDIS_URL", "redis://localhost:6379/0")))
app = FastAPI(lifespan=lifespan(startup))
app.add_middleware(ReadinessGate, startup=startup, health=True)


@app.websocket("/chat")
async def chat(websocket: WebSocket) -> None:
    """Send the stage: behind the gate it is always ready."""
    await websocket.accept()
    await websocket.send_text(startup.stage)
    await websocket.close()
