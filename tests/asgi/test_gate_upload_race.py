"""No part of an upload is lost that arrives while its request is let in, whatever the moment."""

import anyio
import anyio.lowlevel
import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from orchestrator._http.asgi_types import Message, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from tests.asgi.gate_support import App, Caller, Startup, http_scope, settled

pytestmark = [
    pytest.mark.anyio,
    # An older Starlette leaves this to the garbage collector.
    pytest.mark.filterwarnings("ignore:Exception ignored in. <async_generator object Request.str"),
]

TURNS = 40
"""In so many turns of the event loop all of it is over."""


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


class Slow:
    """Middleware that takes some turns of the event loop to pass a message on."""

    def __init__(self, app: ReadinessGate) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_slowly() -> Message:
            message = await receive()
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            return message

        await self.app(scope, receive_slowly, send)


@pytest.mark.parametrize("middleware", [Passing, Slow])
async def test_no_part_is_lost_that_arrives_as_the_request_is_let_in(
    middleware: type[Passing] | type[Slow],
) -> None:
    for turns in range(TURNS):
        assert await _echoed(middleware, turns) == b"one two three", turns


async def _echoed(middleware: type[Passing] | type[Slow], turns: int) -> bytes:
    """What the application got, with the second part so many turns after the start-up is ready."""
    startup = Startup()
    async with startup, anyio.create_task_group() as tasks:
        app = middleware(ReadinessGate(App(), startup))
        caller = Caller(app, http_scope(method="POST"))
        caller.give_only(part(b"one ", more=True))
        tasks.start_soon(caller.run)
        await settled()
        startup.make_ready()
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        caller.give(part(b"two ", more=True))
        await settled()
        caller.give(part(b"three", more=False))
        with anyio.fail_after(10):
            await caller.done.wait()
        assert caller.error is None
    return caller.body
