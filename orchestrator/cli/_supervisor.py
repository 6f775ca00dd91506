"""The child process of `run`: starting it, passing signals on to it, and burying the dead.

A process 1 inherits every orphan of its container, and whoever it does not wait for stays as a
zombie; so everything that ends is waited for here, not only CMD.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from orchestrator.cli._process import IGNORED_BY_PYTHON, cannot_start

_PR_SET_CHILD_SUBREAPER = 36
"""From `linux/prctl.h`: orphans below this process become its own children, as with process 1."""


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(getattr(signal, name) for name in names if hasattr(signal, name))


ENDING = _numbers("SIGTERM", "SIGINT", "SIGQUIT")
"""What CMD is told to end by."""

PASSED_ON = ENDING | _numbers("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGALRM", "SIGCONT")
"""What goes to CMD instead of being obeyed."""

_OF_THE_TERMINAL = _numbers("SIGINT", "SIGQUIT", "SIGHUP", "SIGWINCH", "SIGCONT")


class Child:
    """One child process.

    Attributes:
        pid: Its process id; 0 before it was started.
        returncode: How it ended, as in `subprocess`: its status, or the negative number of the
            signal that ended it; `None` before.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.pid != 0 and self.returncode is None

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it.

        Raises:
            UserError: When it is not found or cannot be executed.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            # Not a fork: the thread of the probe may hold a lock at this moment.
            self.pid = os.posix_spawnp(
                command[0],
                list(command),
                dict(environ),
                setsigdef=[*IGNORED_BY_PYTHON],
                setsigmask=[],
            )
        except (OSError, ValueError) as error:
            raise cannot_start(command[0], error) from None

    def pass_on(self, number: int) -> None:
        """Send it a signal, unless the terminal has sent it already."""
        if self.running and not (number in _OF_THE_TERMINAL and _in_foreground()):
            # It may have ended and not be waited for yet: that is no error.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def bury(self) -> int:
        """Wait for everything that has ended; return how many orphans were among it."""
        orphans = 0
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return orphans
            if pid == 0:
                return orphans
            if pid == self.pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            else:
                orphans += 1


def become_subreaper() -> bool:
    """Inherit the orphans below this process, where the system can do that (Linux)."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _in_foreground() -> bool:
    """Whether this process, and CMD with it, is what the keys of a terminal go to."""
    with contextlib.suppress(OSError):
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            return os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)
    return False
