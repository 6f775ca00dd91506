"""The same service with everything of ours: probe, gate, lifespan, traces and metrics.

`import_service_ours.py FD REDIS_URL`
"""

import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from orchestrator import Orchestrator, Platform, Policy
from orchestrator.asgi import ReadinessGate, lifespan
from orchestrator.otel import OpenTelemetryGateMetrics, OpenTelemetryObserver, setup_telemetry
from orchestrator.redis import RedisProbe

setup_telemetry("bench")
startup = Orchestrator(
    RedisProbe(sys.argv[2]),
    policy=Policy.for_platform(Platform.OTHER),
    observers=[OpenTelemetryObserver()],
)


async def chat(_: Request) -> PlainTextResponse:
    """Tells how many modules are loaded when it is asked."""
    return PlainTextResponse(str(len(sys.modules)))


app = Starlette(routes=[Route("/chat", chat)], lifespan=lifespan(startup))
app.add_middleware(ReadinessGate, startup=startup, health=True, metrics=OpenTelemetryGateMetrics())

if __name__ == "__main__":
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    server.run([socket.socket(fileno=int(sys.argv[1]))])
