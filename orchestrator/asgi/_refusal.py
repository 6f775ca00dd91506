"""How the gate turns a request away, by what the server can express."""

from http import HTTPStatus

import anyio.lowlevel

from orchestrator.asgi._release import Outcome
from orchestrator.asgi._types import RetryAfter, Scope, Send, problem, respond
from states import Stage

_TRY_AGAIN_LATER = 1013
"""The close code for "try again later" in the IANA registry of WebSocket close codes."""

_STOPPING = "The service is stopping."
_DEGRADED = "The service is degraded: something it depends on is not available."
_STARTING = "The service is starting."
_CROWDED = "The service is starting, and too many clients are waiting for it already."


class Refusal:
    """Turns requests away.

    Args:
        retry_after: Draws the seconds that clients should wait.
        accept_then_close: Accept a WebSocket only to close it with 1013. Clients whose back-off
            ends with the first open connection then return at once.
    """

    def __init__(self, retry_after: RetryAfter, *, accept_then_close: bool) -> None:
        self._retry_after = retry_after
        self._accept_then_close = accept_then_close

    async def send(self, scope: Scope, send: Send, why: str) -> None:
        """Refuse; a WebSocket's first message must have been received."""
        kind = "http.response"
        if scope["type"] == "websocket":
            if self._accept_then_close:
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": why})
                return
            kind = "websocket.http.response"
            if kind not in (scope.get("extensions") or {}):
                await send({"type": "websocket.close"})  # the server makes it a 403
                return
        await respond(
            send,
            HTTPStatus.SERVICE_UNAVAILABLE,
            problem(HTTPStatus.SERVICE_UNAVAILABLE, why),
            headers=[self._retry_after.header()],
            kind=kind,
            head=scope.get("method") == "HEAD",
        )
        if scope["type"] == "websocket":
            # uvicorn's `websockets-sansio` logs an error for each denial if the application returns
            # before the connection is closed, which takes one turn (pull request 3138 there).
            await anyio.lowlevel.checkpoint()


def reason(outcome: Outcome, stage: Stage, *, stopped: bool) -> str:
    """One line for the client. It names no dependency: whoever may know reads the health page."""
    if stopped:
        return _STOPPING
    if outcome is Outcome.OVERFLOW:
        return _CROWDED
    return _DEGRADED if stage is Stage.DEGRADED else _STARTING
