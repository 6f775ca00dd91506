"""A real server of a test's own: one program on a free port, with a directory that goes with it."""

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil


class ServerProcess(ABC):
    """As a context manager it starts, and is gone afterwards.

    Args:
        name: What it is, as a prefix of its directory.
        port: The port.
    """

    def __init__(self, name: str, port: int) -> None:
        self.port = port
        self._name = name
        self._temporary = tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True)
        self.directory = Path(self._temporary.name)
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def start(self) -> Self:
        """Start it, again after `kill`; return once it answers."""

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def family(self) -> list[psutil.Process]:
        """The process and all below it."""
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]

    def freeze(self) -> None:
        """Stop all of it (SIGSTOP); return once every thread has stopped. Sockets still accept."""
        family = self.family()
        _signal(family, signal.SIGSTOP)
        deadline = time.monotonic() + 10
        for process in family:
            while not _is_stopped(process.pid):
                assert time.monotonic() < deadline, "it does not stop"
                time.sleep(0.001)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        _signal(self.family()[::-1], signal.SIGCONT)

    def kill(self) -> None:
        """End all of it without warning (SIGKILL)."""
        if self._process is not None:
            family = [] if self._process.poll() is not None else self.family()
            _signal(family, signal.SIGKILL)
            self._process.wait(30)
            psutil.wait_procs(family, 30)
            self._process = None

    def close(self) -> None:
        """End it, and remove its directory."""
        self.kill()
        self._temporary.cleanup()

    def wait_until(
        self, answers: Callable[[], bool], limit_seconds: float, pause_seconds: float = 0.02
    ) -> None:
        """Return once it answers.

        Raises:
            RuntimeError: It has ended instead.
            TimeoutError: It does not answer in time.
        """
        deadline = time.monotonic() + limit_seconds
        while not answers():
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"{self._name} on port {self.port} is not running")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._name} on port {self.port} does not answer")
            time.sleep(pause_seconds)

    def answer_to(self, question: bytes, size: int, limit_seconds: float = 10.0) -> bytes:
        """What it says to a question on a new connection; empty if it takes none."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=limit_seconds) as sock,
        ):
            sock.sendall(question)
            return sock.recv(size)
        return b""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_error: object) -> None:
        self.close()


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _is_stopped(pid: int) -> bool:
    try:
        stats = [one.read_text() for one in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:  # one of them has just ended
        return False
    return all(stat.rpartition(")")[2].split()[0] in "TtZX" for stat in stats)
