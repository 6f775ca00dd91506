"""The demo's side of its service: start it, hear it, end it."""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import orchestrator
from orchestrator.cli.demo.choices import DemoError
from orchestrator.cli.demo.reports import DemoReport, ServiceOptions, decode

_BOOT = """
import sys
if (root := sys.argv.pop(1)) not in sys.path:
    sys.path.insert(0, root)
from orchestrator.cli.demo.service import main
main()
"""
"""Not `python -m`, which looks into the current directory first: a `redis.py` that lies there would
be taken for redis-py."""

_LINE_LIMIT_BYTES = 1 << 20
_STOP_SECONDS = 20.0  # longer than the service gives itself
_CAUSE = re.compile(r"\[Errno -?\d+\]|^[\w.]*(Error|Exception)\b")


class ServiceProcess:
    """The service as a child process.

    Args:
        options: What it is started with.
        log: Where its standard error goes.
        heard: Called with each report.
    """

    def __init__(
        self, options: ServiceOptions, log: Path, heard: Callable[[DemoReport], None]
    ) -> None:
        self._options = options
        self._log = log
        self._heard = heard
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = asyncio.Event()
        self._news = asyncio.Event()
        self._transport: asyncio.ReadTransport | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> tuple[int, float]:
        """Start it; return its process id and when, in monotonic seconds."""
        started_at = time.monotonic()
        self._process = process = self._spawn()
        reader = asyncio.StreamReader(limit=_LINE_LIMIT_BYTES)
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), process.stdout
        )
        self._reading = asyncio.create_task(self._read(reader))
        return process.pid, started_at

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-c", _BOOT, str(Path(orchestrator.__file__).parents[1])]
        with self._log.open("wb") as log:
            return subprocess.Popen(  # noqa: S603  this Python, our module
                [*command, json.dumps(asdict(self._options))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for the demo to handle, which then ends the service in its order.
                process_group=0,
            )

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            async for line in reader:
                self._heard(decode(line))
                self._news.set()
        finally:
            self._ended.set()
            self._news.set()

    async def until(self, true: Callable[[], bool], timeout_seconds: float, what: str) -> None:
        """Wait until reports have made something true.

        Raises:
            DemoError: When it does not become true in time, or the service ends before.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while not true():
                    if self._ended.is_set():
                        raise DemoError(
                            f"the service ended before {what}; it said last: {self.last_words()}"
                        )
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise DemoError(f"{what}: not within {timeout_seconds:g} s") from None

    async def stop(self) -> None:
        """Let it end by itself, and hear all that it has to say.

        Raises:
            DemoError: When it does not end, or not well.
        """
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            raise DemoError("the service did not end on request") from None
        # Its output ended with it, so this does not block for long.
        if status := process.wait(_STOP_SECONDS):
            raise DemoError(
                f"the service ended with status {status}; it said last: {self.last_words()}"
            )

    def kill(self) -> None:
        """End it at once, if it still runs. It is gone when this returns."""
        if self._reading is not None:
            self._reading.cancel()
        if self._transport is not None:
            self._transport.close()
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def last_words(self) -> str:
        """The last line of its log that names a cause; else the last one."""
        if not self._log.exists():
            return "nothing"
        return last_words(self._log.read_text(errors="replace"))


def last_words(text: str) -> str:
    """The last line that names a cause. Servers go on to say that they end, in what order."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line for line in lines if _CAUSE.search(line)]
    return (causes or lines or ["nothing"])[-1]
