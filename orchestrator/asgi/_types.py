"""The ASGI 3 interface as types, and the few answers that gate and health endpoints give."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from http import HTTPStatus
from random import Random
from typing import Any

Scope = MutableMapping[str, Any]
"""What a server says of a connection. Its values differ in type by the ASGI specification."""

Message = MutableMapping[str, Any]
"""One event, in either direction."""

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Header = tuple[bytes, bytes]


class RetryAfter:
    """Draws the seconds of `Retry-After`, spread so that clients do not return all at once.

    Args:
        seconds: The least and the most, both whole seconds: the header knows no fractions.
        random: The source of the spread; seeded by the system if not given.

    Raises:
        ValueError: When the least is below 0 or above the most.
    """

    def __init__(self, seconds: tuple[int, int], random: Random | None = None) -> None:
        least, most = seconds
        if not 0 <= least <= most:
            raise ValueError(
                f"retry_after_seconds is {seconds!r}; it must be (least, most), both 0 or more"
            )
        self._least, self._most = least, most
        # Jitter needs no secrecy.
        self._random = random or Random()  # noqa: S311

    def header(self) -> Header:
        """A `Retry-After` header with a new draw."""
        seconds = self._random.randint(self._least, self._most)
        return (b"retry-after", str(seconds).encode())


def route_path(scope: Scope) -> str:
    """The path below the mount point: `path` without `root_path`."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(root + "/") else path


def problem(status: HTTPStatus, detail: str) -> bytes:
    """A body of `application/problem+json` (RFC 9457)."""
    return as_json(
        {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
    )


def as_json(value: Mapping[str, object]) -> bytes:
    """A body of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def respond(
    send: Send,
    status: HTTPStatus,
    body: bytes,
    *,
    content_type: bytes = b"application/problem+json",
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
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": f"{kind}.start", "status": int(status), "headers": all_headers})
    await send({"type": f"{kind}.body", "body": b"" if head else body, "more_body": False})
