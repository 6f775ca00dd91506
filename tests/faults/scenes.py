"""Servers with a fault. Each scene is a context manager that produces one, for real if it can be.

What a real Redis cannot be made to do on one machine is played by a `FakeServer`, which is a real
socket with a scripted other side.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from orchestrator.redis import Expect, RedisProbe
from tests.redis_server import GREETED, FakeServer, commands, free_port, swallowing

SECRET = "correct-horse-9"  # a made-up one


class Unavailable(Exception):  # it says why a fault cannot be produced here
    """What the scene needs is not on this machine."""


@dataclass
class Scene:
    """One faulty server.

    Attributes:
        url: How to reach it.
        connections: How many connections it has seen from probes so far. Called after `heal`.
        open_connections: How many of them are open now.
        inflict: For scenes that begin well: makes the fault.
        heal: Lets the server speak again, as far as counting needs it.
        expect: What the probe asks besides PING.
        make: How the probe is made, where a URL does not say it.
    """

    url: str
    connections: Callable[[], int] = lambda: 0
    open_connections: Callable[[], int] = lambda: 0
    inflict: Callable[[], object] = lambda: None
    heal: Callable[[], object] = lambda: None
    expect: Expect = field(default_factory=Expect)
    make: Callable[[], RedisProbe] | None = None

    def probe(self) -> RedisProbe:
        """A new probe of it."""
        return self.make() if self.make else RedisProbe(self.url, expect=self.expect)


Stage = Callable[[], "contextlib.AbstractContextManager[Scene]"]
"""What opens a scene."""


def wait_until(true: Callable[[], bool], timeout_seconds: float = 10.0) -> None:
    """Return once it is true."""
    deadline = time.monotonic() + timeout_seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError("the scene did not come about")
        time.sleep(0.002)


# -- nobody there ---------------------------------------------------------------------------------


@contextmanager
def refused() -> Iterator[Scene]:
    yield Scene(f"redis://127.0.0.1:{free_port()}")


@contextmanager
def no_socket() -> Iterator[Scene]:
    yield Scene("unix:///nowhere/redis.sock")


@contextmanager
def unknown_name() -> Iterator[Scene]:
    started_at = time.monotonic()
    with contextlib.suppress(socket.gaierror):
        socket.getaddrinfo("no-such-host.invalid", 6379)
    if time.monotonic() - started_at > 0.2:
        raise Unavailable("the resolver of this machine takes long to say that it knows no name")
    yield Scene("redis://no-such-host.invalid:6379")


HUNG_HOST = "hung-resolver.invalid"
"""The name whose look-up hangs, where `hanging_resolver` is in place."""


@contextmanager
def hanging_resolver() -> Generator[Callable[[], None]]:
    """Make the look-up of `HUNG_HOST` hang until it is released; all other names are looked up.

    A resolver that really hangs needs another /etc/resolv.conf, and so root.
    """
    look_up, released = socket.getaddrinfo, threading.Event()

    def hang(host: object, *args: object, **options: object) -> object:
        if host == HUNG_HOST:
            released.wait()
            raise socket.gaierror(socket.EAI_AGAIN, "released")
        return look_up(host, *args, **options)  # type: ignore[arg-type]  # handed on as they are

    socket.getaddrinfo = hang  # type: ignore[assignment]  # a stand-in
    try:
        yield released.set
    finally:
        released.set()
        socket.getaddrinfo = look_up


@contextmanager
def hung_name() -> Iterator[Scene]:
    with hanging_resolver() as release:
        yield Scene(f"redis://{HUNG_HOST}:6379", heal=release)


@contextmanager
def full_backlog() -> Iterator[Scene]:
    with swallowing() as port:
        yield Scene(f"redis://127.0.0.1:{port}")


# -- played ---------------------------------------------------------------------------------------


def fake(talk: Callable[[socket.socket], None], path: str = "/0", user: str = "") -> Stage:
    """A scripted server."""

    @contextmanager
    def open_it() -> Iterator[Scene]:
        with FakeServer(talk) as server:
            url = f"redis://{user}127.0.0.1:{server.port}{path}"
            yield Scene(url, lambda: server.accepted, lambda: server.open)

    return open_it


def reset(sock: socket.socket) -> None:
    """Read the question, and answer it with RST."""
    sock.recv(4096)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def closed_mid_reply(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"+PO")


def until_left(sock: socket.socket) -> None:
    """Wait until the other side has gone."""
    while sock.recv(65536):
        pass


def drip(sock: socket.socket) -> None:
    sock.recv(4096)
    while True:
        time.sleep(0.01)
        sock.sendall(b"+")


def each_reply_late(sock: socket.socket) -> None:
    """Each of the replies soon enough, if every one had a deadline of its own."""
    for command in commands(sock):
        time.sleep(0.2)
        sock.sendall(GREETED.get(command[0], b"+PONG\r\n"))


def stalled_bulk(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"$200000\r\n" + b"x" * 1000)
    until_left(sock)


def impossible_bulk(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"$20000000\r\n" + b"x" * 1000)
    until_left(sock)


def greeting_of_smtp(sock: socket.socket) -> None:
    sock.sendall(b"220 mail.example ESMTP " + SECRET.encode() + b"\r\n")
    until_left(sock)


def answering(answer: bytes) -> Callable[[socket.socket], None]:
    def talk(sock: socket.socket) -> None:
        while sock.recv(4096):
            sock.sendall(answer)

    return talk
