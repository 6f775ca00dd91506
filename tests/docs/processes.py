"""Starts the processes in which the Python of pages runs: see `tests.docs.interpreter`."""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TextIO

from tests.cli.cli_support import PATIENCE_SECONDS, until
from tests.docs.interpreter import Fork


class Parent:
    """The process that all pages are forks of."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.docs.interpreter"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.end)

    def ask(self, order: Mapping[str, object]) -> Any:  # what JSON may hold
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate()


_parent = cache(Parent)


class PageProcess:
    """The process of one page."""

    def __init__(self, pid: int, blocks: TextIO, answers: TextIO) -> None:
        self._pid = pid
        self._blocks = blocks
        self._answers = answers

    def run(self, source: str, file: str, line: int) -> Mapping[str, str]:
        """Run a block; what it printed, and its traceback if it failed."""
        order = {"source": source, "file": file, "line": line}
        print(json.dumps(order), file=self._blocks, flush=True)
        answer = self._answers.readline()
        assert answer, "the page's process has ended"
        said: Mapping[str, str] = json.loads(answer)
        return said

    def await_end(self) -> None:
        """It ends by itself, and well, since no block comes any more."""
        status: list[int] = []

        def ended() -> bool:
            status[:] = [found] if (found := _parent().ask({"poll": self._pid})) is not None else []
            return bool(status)

        try:
            until(ended, "the page's process does not end")
        except AssertionError:
            os.kill(self._pid, signal.SIGKILL)
            raise
        assert status == [0], f"the page's process ended with {status}"


@contextmanager
def open_process(
    directory: str, environ: Mapping[str, str], path: list[str], imports: list[str]
) -> Iterator[PageProcess]:
    """A process of its own, in this directory; it has ended with the block."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        fork = Fork(directory, environ, path, imports, listener.getsockname()[1])
        pid = _parent().ask({"fork": fork._asdict()})
        listener.settimeout(PATIENCE_SECONDS)
        channel, _ = listener.accept()
        channel.settimeout(None)
        process = PageProcess(
            pid,
            stack.enter_context(channel.makefile("w", encoding="utf-8")),
            stack.enter_context(channel.makefile("r", encoding="utf-8")),
        )
        try:
            yield process
        finally:
            channel.shutdown(socket.SHUT_WR)
            channel.close()
            process.await_end()
