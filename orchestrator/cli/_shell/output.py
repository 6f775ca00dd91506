"""Standard output and error that may be closed, full, or without a reader.

What is said to a person must never decide what becomes of a service. What is asked for, such as
JSON, must not be lost without a word.
"""

import errno
import io
import os
import signal
import sys
from collections.abc import Mapping
from typing import TextIO

from orchestrator._hardening.log_thread import wait_until_written
from orchestrator._hardening.text import one_line
from orchestrator.cli._shell.errors import UserError
from orchestrator.cli._shell.exit_codes import FAILED, SIGNALLED
from orchestrator.cli._shell.foreign_text import json_line
from orchestrator.cli._shell.program import PROGRAM

_MOST_LINE_CHARACTERS = 2000
"""What is said to a person may name paths, addresses and reasons; nothing needs more."""

_RAISING = {"strict", "surrogateescape"}
"""What Python does with characters that it cannot write; the latter in the locales C and POSIX."""


def open_missing_streams() -> None:
    """Put the null device where a standard stream is closed.

    Else the first socket that is opened would take its number, and what is printed would go there.
    It is not inherited: CMD finds closed what was closed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = _stream(1)
    if sys.stderr is None:
        sys.stderr = _stream(2)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in _RAISING:
        # Where the terminal's alphabet is small, a reason in another one must not be an error.
        sys.stdout.reconfigure(errors="backslashreplace")


def _stream(number: int) -> TextIO:
    return open(number, "w", encoding="utf-8", errors="replace", closefd=False)


def note(text: str) -> None:
    """Say something in one line on standard error, if that is possible."""
    print_error(f"{PROGRAM}: {text}")


def print_error(line: str) -> None:
    """Print a line on standard error, if that is possible."""
    try:
        print(one_line(line, _MOST_LINE_CHARACTERS), file=sys.stderr, flush=True)  # noqa: T201  this is a command line
    except (OSError, ValueError):  # the reader is gone
        return


def print_json(data: Mapping[str, object]) -> None:
    """Print one JSON object as a line on standard output."""
    print(json_line(data), flush=True)  # noqa: T201  this is a command line


def flush() -> None:
    """Write out what can be written; what cannot be is thrown away.

    What is left would fail once more when the process ends, and take its exit status away.
    """
    wait_until_written()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _throw_away(stream)


def _throw_away(stream: TextIO) -> None:
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)


def finished(status: int) -> int:
    """The exit status of a command that has printed what it has to print.

    Raises:
        UserError: When it cannot be written.
        ReaderGone: When the reader is gone.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        raise lost(error) from None
    return status


_OF_STREAMS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE)


def is_of_a_stream(error: OSError) -> bool:
    """Whether an error is one of writing into what is open, and not of a file or the network."""
    return error.filename is None and error.errno in _OF_STREAMS


def lost(error: OSError) -> UserError:
    """The error for output that cannot be written."""
    if error.errno == errno.EPIPE:
        return ReaderGone()
    why = error.strerror or type(error).__name__
    return UserError(f"cannot write to standard output: {why}", FAILED)


class ReaderGone(UserError):  # named after the state
    """The reader has what it wanted, as `head` does: nothing is to be said of that.

    Args:
        status: The exit status.
    """

    def __init__(self, status: int = SIGNALLED + signal.SIGPIPE) -> None:
        super().__init__("the reader of standard output is gone", status)
