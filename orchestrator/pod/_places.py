"""Where the workers of one service meet: one directory for each supervisor.

It is never the working directory, and no other user may own it or read it. Containers that share a
volume have separate directories in it, since they do not share processes.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from hashlib import blake2s
from pathlib import Path

from orchestrator.pod._parent import ParentProcess

VARIABLE = "ORCHESTRATOR_POD_DIR"

_LEAST_BYTES = 256 * 1024
"""All workers pass over a file system with less room than this, before it is full for some of
them."""

_PRIVATE = 0o700


class NoPlaceError(Exception):
    """The workers cannot meet; the text says why."""


def find_place(
    parent: ParentProcess | None, service: str, environ: Mapping[str, str] = os.environ
) -> Path:
    """The directory of this service, made if need be.

    Args:
        parent: The supervisor; `None` if it is not known.
        service: Tells services of one supervisor apart.
        environ: May name the place.

    Raises:
        NoPlaceError: When there is none.
    """
    name = _name(parent, service)
    reasons = []
    places = list(_places(environ))
    # Workers that live already are joined wherever they are.
    for place in sorted(places, key=lambda one: not (one / name).is_dir()):
        try:
            return _made(place, name)
        except OSError as error:
            reasons.append(f"{place}: {error.strerror or error}")
    raise NoPlaceError("; ".join(reasons) or "there is no temporary directory")


def _places(environ: Mapping[str, str]) -> Iterator[Path]:
    own = f"startup-orchestrator-{os.geteuid()}"
    if given := environ.get(VARIABLE):
        yield Path(given).absolute() / own
        return
    for text in ("/dev/shm", environ.get("TMPDIR", ""), "/tmp", "/var/tmp"):  # noqa: S108  see above
        path = Path(text)
        if path.is_absolute() and path != Path.cwd() and path.is_dir():
            yield path / own


def _name(parent: ParentProcess | None, service: str) -> str:
    """The name of this group of processes: the same for all workers of a service, and no others."""
    marks = [service]
    if parent is not None:
        marks += [str(parent.pid), parent.started]
    # Containers on one volume have other namespaces, if not another kernel.
    for mark in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid", "/proc/self/ns/mnt"):
        with contextlib.suppress(OSError):
            path = Path(mark)
            marks.append(str(path.readlink()) if path.is_symlink() else path.read_text("ascii"))
    marks.append(os.uname().nodename)
    number = "workers" if parent is None else str(parent.pid)
    return f"{number}-{blake2s('|'.join(marks).encode(), digest_size=8).hexdigest()}"


def _made(place: Path, name: str) -> Path:
    _make_private(place)
    room = os.statvfs(place)
    path = place / name
    if not path.is_dir() and room.f_blocks > 0 and room.f_bavail * room.f_frsize < _LEAST_BYTES:
        raise OSError(0, "no space is left on it")
    _make_private(path)
    return path


def _make_private(path: Path) -> None:
    """Make it, or check that it is ours alone: others may write to its parent directory."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(_PRIVATE, parents=not path.parent.exists())
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(0, "it is not a directory")
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise OSError(0, "it belongs to another user, or others may use it")
