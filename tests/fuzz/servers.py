"""A server that says one thing to whoever connects, and can be told what."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

_PATIENCE_SECONDS = 5.0


class Sayer:
    """Reads something on each connection, says `reply` and ends its side."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.reply = b""
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                with sock, contextlib.suppress(OSError):
                    self._talk(sock)

    def _talk(self, sock: socket.socket) -> None:
        # One after the other: the next client comes when the one before has ended.
        sock.settimeout(_PATIENCE_SECONDS)
        sock.recv(65536)
        sock.sendall(self.reply)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass


@contextmanager
def a_sayer() -> Iterator[Sayer]:
    sayer = Sayer()
    try:
        yield sayer
    finally:
        sayer.close()


@contextmanager
def nothing_but_loopback() -> Iterator[None]:
    """Servers name others: none of those may be looked up or asked."""
    known = socket.inet_pton

    def inet_pton(family: int, host: str) -> bytes:
        if host not in ("127.0.0.1", "::1"):
            raise OSError(host)
        return known(family, host)

    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "not in this test")

    with (
        mock.patch.object(socket, "inet_pton", inet_pton),
        mock.patch.object(socket, "getaddrinfo", getaddrinfo),
    ):
        yield
