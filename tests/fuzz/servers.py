"""A server that says one thing to whoever connects, and can be told what."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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
