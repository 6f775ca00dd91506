"""Running the command line as a process of its own, and ending it with the block."""

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0
"""Far more than anything here takes: what goes wrong must fail, not hang."""

NOT_INHERITED = ("ORCHESTRATOR_REDIS_URL", "REDIS_URL", "NOTIFY_SOCKET", "K_SERVICE", "NO_COLOR")


def environment(**more: str) -> Mapping[str, str]:
    """This environment without what changes the commands, and with Python's warnings as errors."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return kept | {"PYTHONWARNINGS": "error", "COLUMNS": "100"} | more


def words(*arguments: str) -> list[str]:
    """The command line for `startup-orchestrator ARGUMENTS`."""
    return [sys.executable, "-m", "orchestrator", *arguments]


_BUSY = "does not count, since this process did not run in time"
"""What any command may say once on a busy machine, whatever else it says."""


def finished(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. What it says of a busy machine is left out."""
    done = subprocess.run(
        words(*arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment(**environ),
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    lines = done.stderr.splitlines(keepends=True)
    done.stderr = "".join(line for line in lines if _BUSY not in line)
    return done


T = TypeVar("T")


def with_time_enough(
    run: Callable[[str], T],
    asked: Callable[[T], bool],
    timeouts: tuple[str, ...] = ("0.6", "3", "9"),
) -> T:
    """What a command shows with a short `--timeout`; on a busy machine, with a longer one.

    Args:
        run: Runs it with this timeout.
        asked: Whether something was asked within that time.
        timeouts: In seconds, one after the other.
    """
    for seconds in timeouts:
        if asked(shown := run(seconds)):
            break
    return shown


@contextmanager
def a_command(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs while the block does, and is killed with it."""
    process = subprocess.Popen(
        words(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(**environ),
        start_new_session=True,  # a process group of its own, without a terminal
    )
    try:
        yield process
    finally:
        # With all that it has started: what survives it would keep the pipes open.
        kill_all(process.pid)
        process.communicate()


def kill_all(pid: int) -> None:
    """Kill a process and those that it has started, and these."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for one in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Read standard error up to the line that says this."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return line
    raise AssertionError(f"it ended without saying {text!r}: {seen}")


def until(true: Callable[[], bool], what: str) -> None:
    """Ask again and again until something holds that tells nobody when it does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class InTerminal:
    """A command that is the first in a terminal of its own, as in `docker run -it`."""

    def __init__(self, process: subprocess.Popen[bytes], keyboard: int) -> None:
        self.process = process
        self._keyboard = keyboard
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._keyboard, text.encode())

    def until(self, text: str) -> None:
        """Read what is shown until it has this in it."""
        while text not in self.shown:
            ready, _, _ = select.select([self._keyboard], [], [], PATIENCE_SECONDS)
            assert ready, f"it never showed {text!r}: {self.shown!r}"
            try:
                part = os.read(self._keyboard, 65536)
            except OSError:  # the other side's end reads as an error (EIO)
                part = b""
            assert part, f"it ended without showing {text!r}: {self.shown!r}"
            self.shown += part.decode()

    def to_the_end(self) -> int:
        """Read all that is shown until it has ended; return how it did."""
        with contextlib.suppress(OSError):
            while part := os.read(self._keyboard, 65536):
                self.shown += part.decode(errors="replace")
        return self.process.wait(PATIENCE_SECONDS)


@contextmanager
def in_a_terminal(*command: str, **environ: str) -> Iterator[InTerminal]:
    """A command in a terminal while the block runs, killed with it."""
    ours, its = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *command],
        stdin=its,
        stdout=its,
        stderr=its,
        cwd=ROOT,
        env=environment(**{"TERM": "dumb"} | environ),
        start_new_session=True,
    )
    os.close(its)
    try:
        yield InTerminal(process, ours)
    finally:
        kill_all(process.pid)
        process.wait()
        os.close(ours)
