"""Telling a service manager how this process stands: sd_notify(3), one datagram a message."""

import contextlib
import os
import socket

PARENT_SOCKET = "ORCHESTRATOR_NOTIFY_SOCKET"
"""Set where `run` is the parent, to the same address as NOTIFY_SOCKET: who listens there reads
`REPORT`, too."""

REPORT = "X_ORCHESTRATOR"
"""How an orchestrator in this process stands, as JSON. A service manager ignores such names."""


class NotifySocket:
    """Sends messages to a service manager, if there is one.

    Args:
        address: The path of its socket, or an abstract name that begins with `@`; empty for none.
    """

    def __init__(self, address: str = "") -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address and hasattr(socket, "AF_UNIX"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # A service manager that is busy must not hold the event loop up.
            self._socket.setblocking(False)

    def send(self, **messages: str | int) -> bool:
        """Send messages, such as `READY=1`, all at once; return whether they went out."""
        if self._socket is None:
            return False
        text = "\n".join(f"{name}={' '.join(str(it).split())}" for name, it in messages.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(text.encode("utf-8", "replace"), self._address)
            return True
        return False

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def parent_address() -> str:
    """Where `run` listens, if that is the parent; else empty."""
    address = os.environ.get(PARENT_SOCKET, "")
    return address if address and address == os.environ.get("NOTIFY_SOCKET") else ""
