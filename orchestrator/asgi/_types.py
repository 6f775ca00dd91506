"""The ASGI 3 interface as types, and the few answers that gate and health endpoints give."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

from orchestrator._answers import (
    PRIVATE_TRY_AGAIN_LATER,
    PROBLEM_JSON,
    TRY_AGAIN_LATER,
    RetryAfter,
)

Scope = MutableMapping[str, Any]
"""What a server says of a connection. Its values differ in type by the ASGI specification."""

Message = MutableMapping[str, Any]
"""One event, in either direction."""

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

# Frameworks have types of their own for the same three arguments, which fit no other's.
AnyASGIApp = Callable[[Any, Any, Any], Awaitable[None]]
"""An application as it is handed in, of whatever framework."""

Header = tuple[bytes, bytes]


def route_path(scope: Scope) -> str:
    """The path below the mount point: `path` without `root_path`."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def retry_after_header(retry_after: RetryAfter) -> Header:
    """A `Retry-After` header with a new draw."""
    return (b"retry-after", retry_after.draw().encode())


async def respond(
    send: Send,
    status: HTTPStatus,
    body: bytes,
    *,
    content_type: str = PROBLEM_JSON,
    headers: Iterable[Header] = (),
    kind: str = "http.response",
    head: bool = False,
) -> None:
    """Send a whole response that no cache may keep.

    Args:
        send: The server's `send`.
        status: The status.
        body: The body.
        content_type: Its type.
        headers: Further headers, names in lower case.
        kind: What the messages' types begin with; `websocket.http.response` refuses a handshake.
        head: Whether the request was a HEAD: the same headers, and no body.
    """
    all_headers: list[Header] = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": f"{kind}.start", "status": int(status), "headers": all_headers})
    await send({"type": f"{kind}.body", "body": b"" if head else body, "more_body": False})


async def close_try_again_later(send: Send, reason: str) -> None:
    """Close an open WebSocket with 1013, or with the private code where the server forbids it."""
    close = {"type": "websocket.close", "reason": reason}
    try:
        await send({**close, "code": TRY_AGAIN_LATER})
    except OSError:  # by the ASGI specification: the client has left
        raise
    except Exception:  # noqa: BLE001  autobahn's own, for a code that it does not let pass
        await send({**close, "code": PRIVATE_TRY_AGAIN_LATER})
