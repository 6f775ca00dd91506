"""For ASGI applications: `ReadinessGate`, `health_app`, `lifespan` and `deferred`.

In Starlette and FastAPI: `lifespan=lifespan(startup)` enters the orchestrator,
`app.add_middleware(ReadinessGate, startup=startup)` puts the gate in front, and
`app.mount("/health", health_app(startup))` answers health checks. Any other ASGI application is
wrapped: `ReadinessGate(app, startup, manage_lifespan=True, health=True)`. One that takes long to
import is loaded behind its gate: `deferred("chat:app", startup)`.
"""

from orchestrator._gate.counts import AdmissionCounts
from orchestrator._gate.health_answers import Workers
from orchestrator._gate.health_endpoints import health_app
from orchestrator._http.health_paths import HEALTH_PATHS, health_paths
from orchestrator.asgi._deferred import deferred
from orchestrator.asgi._gate import ReadinessGate
from orchestrator.asgi._import_string import LoadError
from orchestrator.asgi._lifespan import lifespan

__all__ = [
    "HEALTH_PATHS",
    "AdmissionCounts",
    "LoadError",
    "ReadinessGate",
    "Workers",
    "deferred",
    "health_app",
    "health_paths",
    "lifespan",
]
