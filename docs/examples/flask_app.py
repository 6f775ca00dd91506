"""A Flask application that holds its clients until Redis answers.

Run it with `gunicorn --threads 4 flask_app:app`; see docs/how-to/wsgi.md for other servers.
"""

import os

from flask import Flask

from orchestrator import Orchestrator
from orchestrator.redis import RedisProbe
from orchestrator.wsgi import ReadinessGate

startup = Orchestrator(RedisProbe(os.environ.get("REDIS_URL", "redis://localhost:6379/0")))
app = Flask(__name__)


@app.get("/chat")
def chat() -> str:
    """Send the stage: behind the gate it is always ready."""
    return startup.stage


app.wsgi_app = ReadinessGate(  # type: ignore[method-assign]  # as Flask's own guide has it
    app.wsgi_app, startup, health=True, max_held=3
)
