"""`wait_readable`, by the name that it has in the installed anyio."""

import socket
from collections.abc import Awaitable, Callable

import anyio

# anyio 4.7 gave it this name, and deprecated the other; a descriptor is as good to both.
wait_readable: Callable[[socket.socket | int], Awaitable[None]] = getattr(
    anyio, "wait_readable", None
) or getattr(anyio, "wait_socket_readable")  # noqa: B009  the type checker knows sockets only
