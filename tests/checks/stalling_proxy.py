"""A TCP proxy that can stop forwarding with its sockets open, as a network that loses a peer."""

import contextlib
import socket
import threading

from tests.redis_server import FakeServer


class StallingProxy(FakeServer):
    """Passes everything on to a port of this machine, while it is let.

    Args:
        port: Where to.

    Attributes:
        held: How many directions of a connection have something that is not passed on.
    """

    def __init__(self, port: int) -> None:
        super().__init__(self._relay)
        self._upstream = port
        self._counting = threading.Lock()
        self.held = 0
        self._flows = threading.Event()
        self._flows.set()

    def stall(self) -> None:
        """Forward nothing more; connections are still accepted."""
        self._flows.clear()

    def resume(self) -> None:
        """Forward again what has come meanwhile."""
        self._flows.set()

    def _relay(self, sock: socket.socket) -> None:
        self._flows.wait()
        with socket.create_connection(("127.0.0.1", self._upstream)) as upstream:
            back = threading.Thread(target=self._pump, args=(upstream, sock), daemon=True)
            back.start()
            self._pump(sock, upstream)
            back.join(5)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._wait_to_pass_on()
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _wait_to_pass_on(self) -> None:
        if self._flows.is_set():
            return
        with self._counting:
            self.held += 1
        self._flows.wait()
        with self._counting:
            self.held -= 1
