"""The terminal that `run` was started in, and whose turn it is there.

CMD has a process group of its own, and its signals come from its parent alone: a signal that went
to the whole group, as one from a terminal does, would reach it twice. So the terminal has to learn
that CMD is what its keys are for, and that it may read; and a parent that does this has the duties
of a shell when CMD is stopped or has ended.
"""

import contextlib
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager

SUSPEND = getattr(signal, "SIGTSTP", 0)
"""What Ctrl-Z sends."""


class Terminal:
    """The controlling terminal of this process, if it is what CMD is used from.

    Where output goes into a pipe there are others in our group, such as a pager, and the terminal
    stays theirs.
    """

    def __init__(self) -> None:
        self._file = -1
        self._group = 0
        if _used():
            with contextlib.suppress(OSError):
                self._file = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    def give_to(self, group: int) -> None:
        """Put the group of CMD into the foreground, if ours is there."""
        self._group = group
        if self._foreground() == os.getpgrp():
            self._set(group)
            # It may have been stopped for reading before it was its turn.
            _signal_group(group, signal.SIGCONT)

    def take_back(self) -> None:
        """Have the terminal again, if CMD had it and no other process has it by now."""
        owner = self._foreground()
        if self._group and owner > 0 and (owner == self._group or not _lives(owner)):
            self._set(os.getpgrp())

    def stop_with(self, number: int) -> None:
        """CMD was stopped: stop, too, so that a shell can go on; and go on together.

        Args:
            number: The signal that has stopped it.
        """
        if number == signal.SIGSTOP:
            return  # someone wants just this, and will continue it
        if number != SUSPEND and self._foreground() == self._group:
            # It wanted to read before it was its turn, which it is by now.
            _signal_group(self._group, signal.SIGCONT)
            return
        self.take_back()
        suspend()
        self.give_to(self._group)
        if number == SUSPEND:  # else it would be stopped again at once, for the same reason
            _signal_group(self._group, signal.SIGCONT)

    def close(self) -> None:
        """Let go of it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _foreground(self) -> int:
        """The group in the foreground; -1 where there is no terminal."""
        with contextlib.suppress(OSError):
            if self._file >= 0:
                return os.tcgetpgrp(self._file)
        return -1

    def _set(self, group: int) -> None:
        with _blocked(signal.SIGTTOU), contextlib.suppress(OSError):
            os.tcsetpgrp(self._file, group)


def suspend() -> None:
    """Stop this process, as Ctrl-Z does, until it is continued.

    The system leaves it out where no shell could continue it, such as in a container.
    """
    before = signal.signal(SUSPEND, signal.SIG_DFL)
    signal.raise_signal(SUSPEND)
    signal.signal(SUSPEND, before)


def _used() -> bool:
    """Whether CMD is used from a terminal: what is started with & in a script is not."""
    if not hasattr(os, "tcsetpgrp") or not os.isatty(0):
        return False
    try:
        return not stat.S_ISFIFO(os.fstat(1).st_mode)
    except OSError:
        return True


@contextmanager
def _blocked(number: int) -> Iterator[None]:
    """The system stops who sets the foreground from the background, if this is not blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
