"""The ASGI 3 interface as types, and what a path means below a mount point."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

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


def raw_path(scope: Scope) -> str:
    """The whole path as it was sent; empty where the server does not say it."""
    sent = scope.get("raw_path")
    return sent.decode("latin-1") if isinstance(sent, bytes) else ""


def route_path(scope: Scope) -> str:
    """The path below the mount point; empty for the mount point without its slash."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :]
    return path
