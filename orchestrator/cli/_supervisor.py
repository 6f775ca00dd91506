"""The child process of `run`: starting it, passing signals on to it, and burying the dead.

A process 1 inherits every orphan of its container, and whoever it does not wait for stays as a
zombie; so everything that ends is waited for here, not only CMD.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from orchestrator.cli._output import flush
from orchestrator.cli._process import IGNORED_BY_PYTHON, cannot_start

_PR_SET_CHILD_SUBREAPER = 36
"""From `linux/prctl.h`: orphans below this process become its own children, as with process 1."""


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(getattr(signal, name) for name in names if hasattr(signal, name))


ENDING = _numbers("SIGTERM", "SIGINT", "SIGQUIT")
"""What CMD is told to end by."""

PASSED_ON = ENDING | _numbers(
    *("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGALRM", "SIGCONT", "SIGTSTP")
)
"""What goes to CMD instead of being obeyed."""


class Child:
    """One child process.

    Attributes:
        pid: Its process id; 0 before it was started.
        returncode: How it ended, as in `subprocess`: its status, or the negative number of the
            signal that ended it; `None` before.
        stopped_by: The signal that has stopped it since the last look; 0 for none.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.stopped_by = 0

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.pid != 0 and self.returncode is None

    def start(self, command: Sequence[str], environ: Mapping[str, str]) -> None:
        """Start it in a process group of its own: what goes to ours, it gets from us, and once.

        Raises:
            UserError: When it is not found or cannot be executed.
        """
        flush()
        try:
            # Not a fork: the thread of the probe may hold a lock at this moment.
            self.pid = os.posix_spawnp(
                command[0],
                list(command),
                dict(environ),
                setpgroup=0,
                setsigdef=[*IGNORED_BY_PYTHON],
                setsigmask=[],
            )
        except (OSError, ValueError) as error:
            raise cannot_start(command[0], error) from None

    def pass_on(self, number: int) -> bool:
        """Send it a signal; return whether it was there to get it."""
        if not self.running:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:  # it has ended, and was not waited for yet
            return False
        return True

    def bury(self) -> int:
        """Wait for everything that has ended; return how many orphans were among it."""
        orphans = self.stopped_by = 0
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return orphans
            if pid == 0:
                return orphans
            if os.WIFSTOPPED(status):
                self.stopped_by = os.WSTOPSIG(status) if pid == self.pid else self.stopped_by
            elif pid == self.pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            else:
                orphans += 1


def become_subreaper() -> bool:
    """Inherit the orphans below this process, where the system can do that (Linux)."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
