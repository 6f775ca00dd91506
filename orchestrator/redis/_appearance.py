"""Noticing that a Unix socket appears, without asking for it again and again."""

import ctypes
import os
import struct
import sys
from pathlib import Path

import anyio

# From <sys/inotify.h>: created, moved here, or given other permissions, as a starting server does.
_EVENTS = 0x100 | 0x80 | 0x4
_HEADER = struct.Struct("iIII")  # watch, events, cookie, length of the name that follows


async def path_changed(path: str, *, was_missing: bool) -> None:
    """Return when something is created at `path`, or its permissions change.

    With `was_missing` it returns at once if there is something by now.

    Waits for ever where that cannot be noticed: without a path, off Linux, or while even the
    directory is missing. So it must not be all that somebody waits for.
    """
    descriptor = _watch(Path(path).parent) if path and sys.platform == "linux" else -1
    if descriptor < 0:
        await anyio.sleep_forever()
        return
    name = os.fsencode(Path(path).name)
    try:
        # Looked at after the watch is set, so that nothing can slip through in between.
        if was_missing and _exists(path):
            return
        while True:
            await anyio.wait_readable(descriptor)
            if name in _names(os.read(descriptor, 4096)):
                return
    finally:
        os.close(descriptor)


def _exists(path: str) -> bool:
    return os.path.lexists(path)


def _watch(directory: Path) -> int:
    libc = ctypes.CDLL(None)
    descriptor = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if descriptor >= 0 and libc.inotify_add_watch(descriptor, bytes(directory), _EVENTS) < 0:
        os.close(descriptor)
        return -1
    return descriptor


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
