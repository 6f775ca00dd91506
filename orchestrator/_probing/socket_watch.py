"""Notices when a Unix socket appears, without polling."""

import ctypes
import os
import struct
import sys
from pathlib import Path

import anyio

from orchestrator._probing.readable import wait_readable

# From <sys/inotify.h>: created, moved here, or given other permissions, as a starting server does.
_EVENTS = 0x100 | 0x80 | 0x4
_HEADER = struct.Struct("iIII")  # watch, events, cookie, length of the name that follows


class SocketWatcher:
    """Watches the path of a Unix socket, on Linux.

    The kernel takes some milliseconds to close a descriptor whose watch was in use just now, and
    the event loop would stand still meanwhile. So the descriptor is kept from one wait to the next,
    and only the watch goes: then nothing piles up in it either.

    Args:
        path: Of the socket; empty for none.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._directory = bytes(Path(path).parent)
        self._name = os.fsencode(Path(path).name)
        self._descriptor = -1
        self._process = 0

    async def changed(self, *, was_missing: bool) -> None:
        """Return when something is created at the path, or its permissions change.

        With `was_missing` it returns at once if there is something by now.

        Where that cannot be noticed it waits for ever: without a path, off Linux, or while even the
        directory is missing. So never wait for this alone.
        """
        if not self._path or sys.platform != "linux":
            await anyio.sleep_forever()
            return
        libc = ctypes.CDLL(None)
        descriptor = self._opened(libc)
        watch = libc.inotify_add_watch(descriptor, self._directory, _EVENTS)
        if watch < 0:
            await anyio.sleep_forever()
            return
        try:
            # Looked at after the watch is set, so that nothing can slip through in between.
            if was_missing and self._exists():
                return
            while True:
                await wait_readable(descriptor)
                if self._name in _names(_read(descriptor)):
                    return
        finally:
            if self._process == os.getpid():  # else a fork's end would blind the parent
                libc.inotify_rm_watch(descriptor, watch)

    def _exists(self) -> bool:
        return os.path.lexists(self._path)

    def close(self) -> None:
        """Let go of the descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _opened(self, libc: ctypes.CDLL) -> int:
        """The descriptor, emptied of earlier events."""
        if self._process != os.getpid():
            # After a fork it is shared: an event read here would be missing there.
            self.close()
            self._process = os.getpid()
        if self._descriptor < 0:
            self._descriptor = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        while self._descriptor >= 0 and _read(self._descriptor):
            pass
        return self._descriptor


def _read(descriptor: int) -> bytes:
    """The kernel's events; empty if there are none."""
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""


def _names(events: bytes) -> set[bytes]:
    """The names of the files to which something happened."""
    names = set()
    at = 0
    while at < len(events):
        _watch_number, _events, _cookie, length = _HEADER.unpack_from(events, at)
        at += _HEADER.size
        names.add(events[at : at + length].rstrip(b"\0"))
        at += length
    return names
