"""The little of ASGI and HTTP that the page needs."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

# The values of scopes and messages differ in type by the ASGI specification.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

SAFE_HEADERS: tuple[Header, ...] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""On every answer: nothing is kept, guessed at, told to others or embedded by them."""


def route_path(scope: Scope) -> str:
    """The path below the mount point; empty for the mount point without its slash."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path


def is_foreign(scope: Scope, *, may_be_linked: bool) -> bool:
    """Whether another site's page asks, in the browser of somebody who may ask.

    `Sec-Fetch-Site` decides where the browser sends it: no script can forge it, and no proxy
    changes it. Older browsers and plain HTTP leave `Origin`, which names the host.

    Args:
        scope: The request.
        may_be_linked: Whether a link on another site may lead here.
    """
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        followed = (
            headers.get(b"sec-fetch-mode") == "navigate"
            and headers.get(b"sec-fetch-dest") == "document"
        )
        return site not in ("same-origin", "none") and not (may_be_linked and followed)
    origin = headers.get(b"origin")
    return origin is not None and urlsplit(origin).netloc != headers.get(b"host")


async def respond(
    send: Send,
    status: HTTPStatus,
    body: bytes,
    *,
    content_type: str,
    headers: Iterable[Header] = (),
    head: bool = False,
) -> None:
    """Send a whole response.

    Args:
        send: The server's `send`.
        status: The status.
        body: The body.
        content_type: Its type.
        headers: Further headers, names in lower case.
        head: Whether the request was a HEAD: the same headers, and no body.
    """
    all_headers: list[Header] = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *SAFE_HEADERS,
        *headers,
    ]
    await send({"type": "http.response.start", "status": int(status), "headers": all_headers})
    await send({"type": "http.response.body", "body": b"" if head else body, "more_body": False})
