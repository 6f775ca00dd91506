"""The child process of `run`: starting it, passing signals on, and waiting for what has ended.

A process 1 inherits every orphan of its container, and whoever it does not wait for stays as a
zombie; so everything that ends is waited for here, not only CMD.
"""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from orchestrator.cli._shell.ending import IGNORED_BY_PYTHON, numbers
from orchestrator.cli._shell.output import flush
from orchestrator.cli._shell.process import cannot_start

_PR_SET_CHILD_SUBREAPER = 36
"""From `linux/prctl.h`: orphans below this process become its own children, as with process 1."""

_TAKE_SOCKETS = """
import os, signal, sys
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
with open("/proc/self/environ", "rb") as given:
    environ = dict(one.split(b"=", 1) for one in given.read().split(bytes(1)) if b"=" in one)
environ[b"LISTEN_PID"] = str(os.getpid()).encode()
try:
    os.execvpe(sys.argv[1], sys.argv[1:], environ)
except OSError as error:
    sys.stderr.write(f"startup-orchestrator: cannot run {sys.argv[1]}: {error.strerror}\\n")
    sys.exit(126)
"""
"""CMD of a service that was activated by a socket: see sd_listen_fds(3). The sockets are for the
process whose id is in LISTEN_PID, which is known only once there is a process."""


STOPS_CMD = numbers("SIGTERM", "SIGINT", "SIGQUIT")
"""The signals that end CMD."""

PASSED_ON = STOPS_CMD | numbers(
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

        What else it inherits is what we were given: open descriptors, the signal mask, ignored
        signals (but for those that Python itself ignores), umask, limits and directory.

        Raises:
            UserError: When it is not found or cannot be executed.
        """
        flush()
        words = list(command)
        if environ.get("LISTEN_PID") == str(os.getpid()):
            # Names us, by another way; a service manager need not set it.
            environ = {name: environ[name] for name in environ if name != "LISTEN_PIDFDID"}
            if shutil.which(words[0], path=environ.get("PATH")) is None:
                raise cannot_start(words[0], FileNotFoundError(errno.ENOENT, ""))
            words = [sys.executable, "-I", "-S", "-c", _TAKE_SOCKETS, *words]
        try:
            # Not a fork: the thread of the probe may hold a lock at this moment.
            self.pid = os.posix_spawnp(
                words[0],
                words,
                environ,
                setpgroup=0,
                setsigdef=[*IGNORED_BY_PYTHON],
            )
        except (OSError, ValueError) as error:
            raise cannot_start(command[0], error) from None

    def pass_on(self, number: int) -> bool:
        """Send it a signal; return whether it was there to get it."""
        if not self.running:
            return False
        try:
            os.kill(self.pid, number)
        except OSError:  # it has ended and was not waited for yet, or its number is reused
            return False
        return True

    def reap(self) -> int:
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
