"""Telling systemd: the protocol of sd_notify(3), which is one datagram for each message."""

import contextlib
import os
import socket
from collections.abc import Mapping
from typing import Self

_OURS = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class Notifier:
    """Sends messages to the service manager; to nobody where there is none.

    Args:
        address: The path of its socket, or an abstract name that begins with `@`; empty for none.
        watchdog_seconds: How often at least it wants a sign of life; 0 for never.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        self.watchdog_seconds = watchdog_seconds
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # A service manager that is busy must not hold the event loop up.
            self._socket.setblocking(False)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """What systemd has put into the environment; see sd_watchdog_enabled(3)."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        meant = pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1e6 if usec.isdecimal() and meant else 0.0)

    def tell(self, **messages: str | int) -> None:
        """Send messages, such as `READY=1`, all at once. One that is lost is nobody's error."""
        if self._socket is None:
            return
        text = "\n".join(f"{name}={_one_line(value)}" for name, value in messages.items())
        with contextlib.suppress(OSError):
            self._socket.sendto(text.encode(), self._address)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def without_notify(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for CMD: what systemd wants to hear, it hears from its parent."""
    return {name: value for name, value in environ.items() if name not in _OURS}


def _one_line(value: str | int) -> str:
    return " ".join(str(value).split())
