"""The process that has started the workers, and how many of them it should start.

Processes count as workers of one service only if that is certain: `multiprocessing` names the
parent (uvicorn, hypercorn, granian), or the process is a fork of it that runs the same command
(gunicorn, uWSGI). Two services that were started from one shell have a parent in common and nothing
else.
"""

import multiprocessing.process
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from states._records import record

_PROC = Path("/proc")
_START_TIME = 19
"""Its place among the fields after the name in /proc/PID/stat; see proc(5)."""

_SERVERS = {
    # Where each server takes the number from, besides the command line.
    "uvicorn": ("UVICORN_WORKERS", "WEB_CONCURRENCY"),
    "fastapi": ("WEB_CONCURRENCY",),
    "gunicorn": ("WEB_CONCURRENCY",),
    "hypercorn": (),
    "granian": ("GRANIAN_WORKERS",),
    "taskiq": (),
}
_NAMED_WITHIN = 4
"""The name of the server is among the first words, options of Python left out: `coverage run -m
uvicorn`."""

_PYTHON_TAKES = frozenset("WXm")
"""The options of Python that may be followed by a separate argument."""


@record
class ParentProcess:
    """The supervisor of the workers.

    Attributes:
        pid: Its process id.
        started: When it was started, in the system's own count; empty where that is not known. It
            tells a later process with the same id apart.
        command: Its command line; empty where that is not known.
    """

    pid: int
    started: str = ""
    command: tuple[str, ...] = ()


def find_parent() -> ParentProcess | None:
    """The supervisor of this process; `None` for one that stands alone, as far as is known."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None:
        pid = int(uwsgi.masterpid())
        return _read(pid) if pid else None
    spawned = multiprocessing.process.parent_process()
    if spawned is not None and spawned.pid is not None:
        return _read(spawned.pid)
    parent, own = _read(os.getppid()), _read(os.getpid())
    if not parent.command:  # no /proc: nothing but gunicorn is known to fork its workers
        return parent if "gunicorn.arbiter" in sys.modules else None
    return parent if _titled(parent) == _titled(own) else None


def _titled(one: ParentProcess) -> tuple[str, ...]:
    """Its command, by which a fork is known; with `setproctitle`, gunicorn changes it in each."""
    title = "gunicorn: "
    return (title,) if one.command and one.command[0].startswith(title) else one.command


def _read(pid: int) -> ParentProcess:
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ParentProcess(pid)
    command = tuple(word.decode(errors="replace") for word in words) if words != [b""] else ()
    return ParentProcess(pid, stat.rpartition(")")[2].split()[_START_TIME], command)


def expected_workers(
    parent: ParentProcess | None, environ: Mapping[str, str] = os.environ
) -> tuple[int | None, str]:
    """How many workers the supervisor keeps, and where that was found; `None` if unknown."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None:
        return int(uwsgi.numproc), "uWSGI"
    command = () if parent is None else parent.command
    server = server_in(command)
    if server is not None and "--reload" in command:
        return 1, "--reload"
    if server == "gunicorn":
        command = (*_split(environ.get("GUNICORN_CMD_ARGS", "")), *command)
    if server is not None and (given := list(_workers_options(command))):
        return given[-1], "the command line"
    for name in ("WEB_CONCURRENCY",) if server is None else _SERVERS[server]:
        if (text := environ.get(name, "")).isdecimal() and int(text):
            return int(text), name
    return None, "the workers that have joined"


def server_in(command: Sequence[str]) -> str | None:
    """The server that a command line starts; `None` if it is none of those known here."""
    words = _without_python(command)[:_NAMED_WITHIN]
    names = (PurePath(word).stem.partition(".")[0] for word in words)
    return next((name for name in names if name in _SERVERS), None)


def _without_python(command: Sequence[str]) -> Sequence[str]:
    """What Python runs, and its arguments: a module, as after `-m`, or a file."""
    if not command or not PurePath(command[0]).name.startswith(("python", "pypy")):
        return command
    rest = list(command[1:])
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option.startswith("--"):
            if option == "--check-hash-based-pycs" and rest:
                rest.pop(0)
            continue
        letter = next((one for one in option[1:] if one in _PYTHON_TAKES | {"c"}), "")
        if letter == "c":
            return []
        value = option.partition(letter)[2] if letter else ""
        if letter == "m":
            return [value, *rest] if value else rest
        if letter and not value and rest:
            rest.pop(0)
    return rest


def _split(words: str) -> Sequence[str]:
    try:
        return shlex.split(words)
    except ValueError:  # a quote that is not closed; gunicorn itself ends with it
        return ()


def _workers_options(command: Sequence[str]) -> Iterator[int]:
    """The numbers after `--workers` or `-w`, in all of their forms."""
    for word, following in zip(command, (*command[1:], ""), strict=True):
        text = ""
        if word in ("--workers", "-w"):
            text = following
        elif word.startswith("--workers="):
            text = word.partition("=")[2]
        elif word.startswith("-w") and not word.startswith("--"):
            text = word[2:]
        if text.isdecimal() and int(text):
            yield int(text)
