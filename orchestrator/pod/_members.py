"""Which workers take part, as the file system shows.

Each worker has two files: NAME.lock, on which it holds a lock for as long as it lives, and
NAME.json, replaced as a whole whenever something changes. The system lets go of the lock when the
process ends, however it ends, so process ids do not matter. Readers remove what dead workers have
left. Three things must not go wrong:

- Between being made and being locked, a file looks like that of a dead worker. So a worker that
  joins checks whether its file is still there, and starts again if not.
- A fork has the same lock, and would keep a dead worker alive. It closes the file without unlocking
  it, which would unlock it for the worker, too.
- Some file systems over a network have locks that belong to a process and not to a file. There a
  second lock by the worker itself would succeed, and release the first. It tries that once, when it
  joins, and then does not take part.
"""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]  # looked at before it is used

_ATTEMPTS = 8
_MOST_BYTES = 16 * 1024

Report = Mapping[str, object]
"""The longest report of a worker."""


class NoLocksError(OSError):
    """The place has no locks that show who lives."""


class Member:
    """This worker in the directory of all.

    Args:
        directory: The directory; it exists.

    Raises:
        OSError: When files cannot be made or locked there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for _ in range(_ATTEMPTS):
            self.name = os.urandom(8).hex()
            if self._lock():
                break
        else:
            raise NoLocksError(0, "its files are removed again and again")
        try:
            self._see_that_locks_hold()
            self.write({})
        except OSError:
            self.leave()
            raise

    def _lock(self) -> bool:
        path = self._path("lock")
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o600)
        except FileNotFoundError:  # the directory was taken for one of the dead
            self.directory.mkdir(0o700, exist_ok=True)
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(self._file).st_ino:
                return True
        except (BlockingIOError, FileNotFoundError):  # another takes it for one of the dead
            pass
        except OSError:
            self.leave()
            raise
        os.close(self._file)
        return False

    def _see_that_locks_hold(self) -> None:
        if not _lives(self._path("lock")):
            raise NoLocksError(0, "it has no flock, as some file systems over a network")

    def _path(self, ending: str) -> Path:
        return self.directory / f"{self.name}.{ending}"

    def write(self, report: Report) -> None:
        """Say how this worker stands.

        Raises:
            OSError: When that is not possible, as on a full file system.
        """
        data = json.dumps(report).encode()
        try:
            self._replace(data)
        except OSError:
            # Full: the old report makes room for the new one. Between the two it has none.
            self._path("json").unlink(missing_ok=True)
            self._replace(data)

    def _replace(self, data: bytes) -> None:
        new = self._path("new")
        try:
            new.write_bytes(data)
            new.replace(self._path("json"))
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise

    def leave(self) -> None:
        """Stop taking part, and leave nothing behind."""
        _remove(self._path("lock"))
        self.forget()
        with contextlib.suppress(OSError):
            self.directory.rmdir()  # unless there are others

    def forget(self) -> None:
        """Let go of the lock without touching what belongs to another process, after a fork."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def has_locks() -> bool:
    """Whether the system knows locks that end with their process."""
    return fcntl is not None


def read(directory: Path, own: str = "") -> Iterator[tuple[str, Report]]:
    """Each living worker's name and report, which is empty before it has given one.

    Args:
        directory: Where they meet.
        own: The name of the worker that reads.
    """
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            name, _, ending = entry.name.partition(".")
            lock = directory / entry.name
            if ending != "lock":
                continue
            if name == own or _lives(lock):
                yield name, _report(lock.with_suffix(".json"))
            else:
                _remove(lock)


MARKS = ("started", "was-ready")
"""Files that record what all workers reached together, for as long as their supervisor lives: all
of them may be restarted at the same time."""


def remember(directory: Path, mark: str) -> None:
    """Leave a mark, one of `MARKS`; if that fails, the workers still remember it themselves."""
    with contextlib.suppress(OSError):
        (directory / mark).touch(0o600)


def remembered(directory: Path) -> frozenset[str]:
    """The marks that were left."""
    return frozenset(mark for mark in MARKS if (directory / mark).exists())


def sweep(place: Path, *, but: Path) -> None:
    """Remove what services that have ended left behind."""
    with contextlib.suppress(OSError):
        for directory in place.iterdir():
            supervisor = directory.name.partition("-")[0]
            # An id that is taken again by now only means that it stays a while longer.
            lives = supervisor.isdecimal() and Path("/proc", supervisor).exists()
            if directory != but and not list(read(directory)) and not lives:
                for mark in MARKS:
                    (directory / mark).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    directory.rmdir()


def _lives(lock: Path) -> bool:
    try:
        file = os.open(lock, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # no descriptor is left: better a dead one too many than a living one too few
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _report(path: Path) -> Report:
    try:
        with path.open("rb") as file:
            known = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _remove(lock: Path) -> None:
    for ending in (".json", ".new", ".lock"):
        with contextlib.suppress(OSError):
            lock.with_suffix(ending).unlink()


def now() -> float:
    """Seconds that mean the same to every process of this machine."""
    return time.monotonic()
