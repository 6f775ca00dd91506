"""How the gate turns a request away, by what the server can express."""

import contextlib
from http import HTTPStatus

import anyio.lowlevel

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.hold_queue import Outcome, Ticket
from orchestrator._gate.open_sockets import DEGRADED, DRAINED
from orchestrator._gate.refusals import retry_after_header
from orchestrator._http.asgi_types import Scope, Send
from orchestrator._http.responses import problem, respond
from orchestrator.asgi._close_watch import close_with
from orchestrator.asgi._connection import Inbox

_DENIAL = "websocket.http.response"


class Refusal:
    """Turns requests away.

    Args:
        startup: The orchestrator.
        accept_then_close: Accept a WebSocket only to close it with 1013, in a drain with 1012.
            Clients whose back-off ends with the first open connection then return at once.
    """

    def __init__(self, startup: Orchestrator, *, accept_then_close: bool) -> None:
        self._startup = startup
        self._accept_then_close = accept_then_close

    def shows_headers(self, scope: Scope) -> bool:
        """Whether the client gets to see the headers: no page does, of its WebSocket."""
        if scope["type"] != "websocket":
            return True
        if self._accept_then_close or _DENIAL not in (scope.get("extensions") or {}):
            return False
        return all(name != b"origin" for name, _ in scope["headers"])

    async def answer(
        self, scope: Scope, inbox: Inbox, send: Send, why: str, ticket: Ticket
    ) -> None:
        """Refuse a request in its own task, or end one whose client has left."""
        if inbox.error is not None:
            raise inbox.error
        if ticket.outcome is not Outcome.LEFT and await inbox.may_answer(scope):
            await self.send(scope, send, why, ticket.retry_after_seconds)
            return
        # Some servers and middlewares log an error for an application that returns without an
        # answer. The client is gone, and whatever else they may raise now is of no consequence.
        with contextlib.suppress(Exception):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            else:
                await self.send(scope, send, why, ticket.retry_after_seconds)

    async def send(self, scope: Scope, send: Send, why: str, retry_after_seconds: int) -> None:
        """Refuse; a WebSocket's first message must have been received."""
        kind = "http.response"
        if scope["type"] == "websocket":
            if self._accept_then_close:
                await send({"type": "websocket.accept"})
                closing = DRAINED if self._startup.draining else DEGRADED
                await close_with(send, closing._replace(reason=why))
                return
            kind = _DENIAL
            if kind not in (scope.get("extensions") or {}):
                await send({"type": "websocket.close"})  # the server makes it a 403
                return
        await respond(
            send,
            HTTPStatus.SERVICE_UNAVAILABLE,
            problem(HTTPStatus.SERVICE_UNAVAILABLE, why),
            headers=[retry_after_header(retry_after_seconds)],
            kind=kind,
            head=scope.get("method") == "HEAD",
        )
        if scope["type"] == "websocket":
            # uvicorn's `websockets-sansio` logs an error for each denial if the application returns
            # before the connection is closed, which takes one turn (pull request 3138 there).
            await anyio.lowlevel.checkpoint()
