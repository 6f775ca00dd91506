"""Becoming another program without changing what that sees."""

import contextlib
import errno
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from orchestrator.cli._shell.ending import IGNORED_BY_PYTHON
from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.exit_codes import NOT_EXECUTABLE, NOT_FOUND
from orchestrator.cli._shell.output import flush

_ENVIRONMENT = Path("/proc/self/environ")
"""What the process was given when it began, whatever it has set since; see proc(5)."""

_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python may set LC_CTYPE to, in its own environment, where the locale is C (PEP 538)."""


def given_environment() -> dict[str, str]:
    """The environment for CMD: ours, without what our interpreter has added to it.

    Where the system does not tell what was given, which Linux does, nothing is taken away.
    """
    environ = dict(os.environ)
    if environ.get("LC_CTYPE") in _COERCED:
        with contextlib.suppress(OSError):
            given = _ENVIRONMENT.read_bytes().split(b"\0")
            before = [one.partition(b"=")[2] for one in given if one.startswith(b"LC_CTYPE=")]
            if not before:
                del environ["LC_CTYPE"]
            elif before[0] in (b"", b"C", b"POSIX"):
                environ["LC_CTYPE"] = os.fsdecode(before[0])
    return environ


def become(command: Sequence[str]) -> NoReturn:
    """Turn this process into `command`: the same process id, parent, terminal and environment.

    Output that cannot be written is no reason to leave it out.

    Raises:
        UserError: When it is not found (127) or cannot be executed (126), as shells say it.
    """
    flush()
    for number in IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), given_environment())  # noqa: S606  no shell is wanted
    except (OSError, ValueError) as error:
        raise cannot_start(command[0], error) from None


def named(command: Sequence[str]) -> None:
    """See to it that a command has a name, before anything is waited for.

    Raises:
        UserError: When it has none: most likely a shell's variable that is not set.
    """
    if command and not command[0]:
        raise UserError(
            'the command is "", which is not a program: is a variable of it not set?', NOT_FOUND
        )


def cannot_start(program: str, error: OSError | ValueError) -> UserError:
    """The error for a command that cannot be started, with the exit status of a shell."""
    if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR):
        return UserError(f"cannot run {program}: not found", NOT_FOUND)
    why = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
    return UserError(f"cannot run {program}: {why}", NOT_EXECUTABLE)
