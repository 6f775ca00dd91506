"""Whole responses, and the requests that are too large for them."""

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus

from orchestrator._http.asgi_types import Header, Receive, Scope, Send

PROBLEM_JSON = "application/problem+json"
"""The content type of a refusal's body (RFC 9457)."""

MOST_BYTES = 32 * 1024
"""No browser and no health check sends more, in headers or as a body, to get a status. Some
servers pass on whatever comes."""

_DIGITS = 9


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


def oversized(headers: Iterable[tuple[bytes, bytes]]) -> HTTPStatus | None:
    """The status that refuses a request too large for such small pages; `None` for others."""
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"content-length":
            if not value.isdigit():
                return HTTPStatus.BAD_REQUEST
            # A length with so many digits is beyond doubt, and not worth being read as a number.
            if len(value) > _DIGITS or int(value) > MOST_BYTES:
                return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if size > MOST_BYTES else None


def problem(status: HTTPStatus, detail: str) -> bytes:
    """A body of `application/problem+json`."""
    return as_json(
        {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
    )


def as_json(value: Mapping[str, object]) -> bytes:
    """A body of JSON, whatever text is in it: a lone surrogate becomes JSON's own escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


async def answer_other(scope: Scope, receive: Receive, send: Send) -> None:
    """Standing alone under a server: take part in the lifespan, and decline WebSockets."""
    if scope["type"] == "websocket":
        await receive()  # websocket.connect
        await send({"type": "websocket.close"})
        return
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})
