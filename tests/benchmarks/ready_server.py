"""Several applications on ports of their own, in one process and one event loop.

`python -m tests.benchmarks.ready_server` prints the ports as JSON, and serves until its standard
input ends. One process for all of them, since two processes that run the very same code may well
differ by more than what is measured here.
"""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterable
from types import FunctionType

import anyio
import anyio.to_thread
import uvicorn
from starlette.middleware.base import BaseHTTPMiddleware

from orchestrator import Stage
from orchestrator._http.asgi_types import ASGIApp, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import NO_DRAIN, Caller, Server, Startup, http_scope, until
from tests.benchmarks.ready_names import AGAIN, ALONE, BASE, GATE, NO_CLOSES, NOTHING


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers two bytes, or gives each message back: the least that a server can be asked for."""
    if scope["type"] == "http":
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def fresh() -> ASGIApp:
    """The application, as code of its own: Python tunes a call by what it has called before."""
    return FunctionType(application.__code__.replace(), globals())


class Nothing:
    """The least that a middleware can be."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on."""
        await self._app(scope, receive, send)


class NothingBase(BaseHTTPMiddleware):
    """The same as most applications write it; it sees no WebSockets, and passes them on."""

    async def dispatch(self, request: object, call_next: object) -> object:  # type: ignore[override]  # what it is handed is not looked at
        """Hand on."""
        return await call_next(request)  # type: ignore[operator]  # the same


async def calm(gates: Iterable[ReadinessGate]) -> None:
    """Wait until `ready` is young no more: the first request begins the calm second after which."""
    for gate in gates:
        await Caller(gate, http_scope("/chat")).run()
        await until(lambda gate=gate: not gate._turnstile.young)  # type: ignore[misc]  # bound at once


async def main() -> None:
    """Serve all of them."""
    async with (
        Startup() as startup,
        Startup(policy=NO_DRAIN) as undrained,
        anyio.create_task_group() as tasks,
    ):
        for one in (startup, undrained):
            one.make_ready()
            await one.wait_for(Stage.READY)
        apps: dict[str, ASGIApp] = {
            ALONE: fresh(),
            AGAIN: fresh(),
            NOTHING: Nothing(fresh()),
            BASE: NothingBase(fresh()),
            GATE: ReadinessGate(fresh(), startup),
            NO_CLOSES: ReadinessGate(fresh(), undrained, count_closes=False),
        }
        await calm(app for app in apps.values() if isinstance(app, ReadinessGate))
        ports = {}
        for name, app in apps.items():
            server = Server(
                uvicorn.Config(app, port=0, lifespan="off", access_log=False, log_level="warning")
            )
            tasks.start_soon(server.serve)
            await server.up.wait()
            ports[name] = server.port
        print(json.dumps(ports), flush=True)
        await asyncio.to_thread(sys.stdin.read)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    fast = importlib.util.find_spec("uvloop") is not None
    anyio.run(main, backend_options={"use_uvloop": fast})
