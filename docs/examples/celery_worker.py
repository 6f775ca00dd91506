"""A Celery worker that is ready once it consumes, and not while it is starting.

Run it with `startup-orchestrator run --child-ready reported -- celery -A celery_worker worker`.
"""

import os

from celery import Celery, signals

from orchestrator import Orchestrator
from orchestrator.redis import RedisProbe

url = os.environ.get("REDIS_URL", "redis://localhost:6379/0")
app = Celery("jobs", broker=url)
startup = Orchestrator(RedisProbe(url), conditions=["consumer"])
running = startup.run_in_thread()


@signals.worker_ready.connect
def consumes(**_: object) -> None:
    """The processes of the pool are forked by now: threads would not live in them."""
    running.start()
    startup.condition("consumer").set(True)


@signals.worker_shutting_down.connect
def ends(**_: object) -> None:
    """Nothing that falls from now on is an outage."""
    startup.stop()


@signals.worker_shutdown.connect
def leave(**_: object) -> None:
    """Leave the orchestrator."""
    running.close()


@app.task
def double(number: int) -> int:
    """Do a job."""
    return 2 * number
