"""A taskiq worker that is ready once all of its processes are.

Run it with `startup-orchestrator run --child-ready reported -- taskiq worker taskiq_worker:broker`.
"""

import os

from taskiq import TaskiqEvents, TaskiqState
from taskiq_redis import ListQueueBroker

from orchestrator import Orchestrator, Stage
from orchestrator.redis import RedisProbe

url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
startup = Orchestrator(RedisProbe(url))
broker = ListQueueBroker(url)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def begin(_: TaskiqState) -> None:
    """Enter the orchestrator in each process, and take jobs once it is ready."""
    await startup.start()
    await startup.wait_for(Stage.READY)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def end(_: TaskiqState) -> None:
    """Leave the orchestrator."""
    await startup.aclose()


@broker.task
async def double(number: int) -> int:
    """Do a job."""
    return 2 * number
