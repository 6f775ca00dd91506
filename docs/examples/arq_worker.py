"""An arq worker that takes no job before Redis is ready.

Run it with `startup-orchestrator run --child-ready reported -- arq arq_worker.WorkerSettings`.
"""

import os

from arq.connections import RedisSettings

from orchestrator import Orchestrator, Stage
from orchestrator.redis import RedisProbe

url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
startup = Orchestrator(RedisProbe(url))


async def double(_: dict[str, object], number: int) -> int:
    """Do a job."""
    return 2 * number


async def begin(_: dict[str, object]) -> None:
    """Enter the orchestrator, and take jobs once it is ready."""
    await startup.start()
    await startup.wait_for(Stage.READY)


async def end(_: dict[str, object]) -> None:
    """Leave the orchestrator."""
    await startup.aclose()


class WorkerSettings:
    """What arq reads."""

    functions = (double,)
    redis_settings = RedisSettings.from_dsn(url)
    on_startup = begin
    on_shutdown = end
