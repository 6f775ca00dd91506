"""A FastStream worker that consumes once Redis is ready.

Run it with `startup-orchestrator run --child-ready reported -- faststream run
faststream_worker:app`.
"""

import os

from faststream import FastStream
from faststream.redis import RedisBroker

from orchestrator import Orchestrator, Stage
from orchestrator.redis import RedisProbe

url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
startup = Orchestrator(RedisProbe(url))
broker = RedisBroker(url)
app = FastStream(broker)


@app.on_startup
async def begin() -> None:
    """Enter the orchestrator, and consume once it is ready."""
    await startup.start()
    await startup.wait_for(Stage.READY)


@app.after_shutdown
async def end() -> None:
    """Leave the orchestrator."""
    await startup.aclose()


@broker.subscriber("jobs")
async def double(number: int) -> int:
    """Do a job."""
    return 2 * number
