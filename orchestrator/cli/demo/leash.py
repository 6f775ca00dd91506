"""Become another program that dies with its parent, however the parent dies.

A program of its own rather than a function run between fork and exec, which would not be safe in a
process with threads. Linux only; elsewhere the command is run as it is.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
"""From `linux/prctl.h`: which signal this process gets when its parent ends."""


def command(words: Sequence[str]) -> list[str]:
    """The command line that runs `words` on a leash held by this process."""
    if sys.platform != "linux":
        return list(words)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *words]


def _main() -> None:
    parent, *words = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it ended before the leash was on
        sys.exit(1)
    os.execv(words[0], words)  # noqa: S606  no shell is what is wanted


if __name__ == "__main__":
    _main()
