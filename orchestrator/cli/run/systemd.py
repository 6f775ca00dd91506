"""Telling systemd: the protocol of sd_notify(3), which is one datagram for each message."""

import os
from collections.abc import Mapping
from typing import Self

from orchestrator._runtime.notify_socket import PARENT_SOCKET, NotifySocket

_OURS = ("NOTIFY_SOCKET", PARENT_SOCKET, "WATCHDOG_PID", "WATCHDOG_USEC")


class Notifier(NotifySocket):
    """Sends messages to the service manager, if there is one.

    Args:
        address: The path of its socket, or an abstract name that begins with `@`; empty for none.
        watchdog_seconds: How often at least it wants a sign of life; 0 for never.
    """

    def __init__(self, address: str = "", watchdog_seconds: float = 0.0) -> None:
        super().__init__(address)
        self.watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """What systemd has put into the environment; see sd_watchdog_enabled(3)."""
        address = environ.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return cls()
        usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        meant = pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1e6 if usec.isdecimal() and meant else 0.0)


def without_notify(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for CMD: what systemd wants to hear, it hears from its parent."""
    return {name: value for name, value in environ.items() if name not in _OURS}
