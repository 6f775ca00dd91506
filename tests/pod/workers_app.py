"""The application that real servers run with several workers."""

import os

from orchestrator import Orchestrator, Policy
from orchestrator._http.asgi_types import Receive, Scope, Send
from orchestrator.asgi import ReadinessGate, health_app
from orchestrator.pod import Pod
from orchestrator.testing import ScriptedProbe

startup = Orchestrator(ScriptedProbe(), policy=Policy(grace_seconds=0.0, drain_limit_seconds=40.0))


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan here; the gate has one")
    body = str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


health = health_app(startup, details=True, pod=Pod())
app = ReadinessGate(application, startup, manage_lifespan=True, health=health)
