"""Where CMD, and whatever it starts, says how it stands: the other end of sd_notify(3).

On Linux the address is an abstract one, which needs no file and no place for it, and the system
says who has sent a message. Elsewhere it is a socket in a directory of our own.
"""

import contextlib
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator._probing.readable import wait_readable

_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): process, user, group
_MOST_BYTES = 64 * 1024
_AT_ONCE = 64
"""So many messages are taken before others have their turn."""

_DEEPEST = 64
_TRUSTED = frozenset({0})
"""The user root may say what it likes."""

Heard = Callable[[int, Mapping[str, str]], None]
"""Called with the process id of the sender, 0 if that is not known, and the fields of a message."""


class NotifyServer:
    """Listens for messages.

    Args:
        heard: Called for each.

    Attributes:
        address: What goes into NOTIFY_SOCKET.

    Raises:
        OSError: When the system has no such sockets.
    """

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._directory = ""
        if not hasattr(socket, "AF_UNIX"):
            raise OSError(0, "the system has no Unix sockets")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        if sys.platform == "linux":
            name = f"startup-orchestrator/{os.urandom(12).hex()}"
            self._socket.bind("\0" + name)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.address = "@" + name
        else:
            self._directory = tempfile.mkdtemp(prefix="startup-orchestrator-")
            self.address = str(Path(self._directory, "notify"))
            self._socket.bind(self.address)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            await wait_readable(self._socket)
            for _ in range(_AT_ONCE):
                if not self._take():
                    break

    def take_all(self) -> None:
        """Take what has come by now."""
        for _ in range(_AT_ONCE):
            if not self._take():
                return

    def _take(self) -> bool:
        try:
            # There is room for who has sent it, and for no descriptors: the system closes those.
            room = socket.CMSG_SPACE(_CREDENTIALS.size)
            data, about, _, _ = self._socket.recvmsg(_MOST_BYTES, room)
        except OSError:  # there is no more
            return False
        pid = user = 0
        for level, kind, value in about:
            if (level, kind) == (socket.SOL_SOCKET, getattr(socket, "SCM_CREDENTIALS", -1)):
                pid, user, _ = _CREDENTIALS.unpack(value[: _CREDENTIALS.size])
        if user in _TRUSTED | {os.geteuid()} or _is_below(pid):
            lines = (line.partition("=") for line in data.decode(errors="replace").split("\n"))
            self._heard(pid, {name: value for name, _, value in lines})
        return True

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        if self._directory:
            with contextlib.suppress(OSError):
                Path(self.address).unlink()
                Path(self._directory).rmdir()


def _is_below(pid: int) -> bool:
    """Whether this process has started it, or started what has: CMD may have changed its user."""
    for _ in range(_DEEPEST):
        if pid == os.getpid():
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return False
        pid = int(stat.rpartition(")")[2].split()[1])
    return False
