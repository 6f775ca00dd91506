"""One connection, bounded in time and in size, that is read in exact pieces."""

import contextlib
import socket
import ssl
import time

from orchestrator._probing.deadline_socket import NOTHING_YET, DeadlineSocket, TooMuchError

_READ_BYTES = 4096


class DeadlineStream(DeadlineSocket):
    """A connection whose bytes are kept until they are taken.

    What was read stays until the next `write`: an attempt that ended in the middle of an answer is
    followed by one that reads it again from its beginning.

    Args:
        sock: The socket, connected.
        until: When to give up, in monotonic seconds.

    Attributes:
        asked_at: When the last `write` ended, or began if it did not end, in monotonic seconds.
    """

    def __init__(self, sock: socket.socket, until: float) -> None:
        super().__init__(sock, until)
        self._buffer = bytearray()
        self._position = 0
        self.asked_at = time.monotonic()

    def rewind(self) -> None:
        """Read again what came since the last `write`."""
        self._position = 0

    def write(self, data: bytes) -> None:
        """Send all of `data`, and forget what was read before."""
        del self._buffer[: self._position]
        self._position = 0
        self.asked_at = time.monotonic()
        self.sendall(data)
        self.asked_at = time.monotonic()

    def read(self, size: int) -> bytes:
        """Read exactly `size` bytes.

        Raises:
            TimeoutError: When they did not come in time.
            ConnectionResetError: When the other side ended the connection instead.
            TooMuchError: When the answer gets longer than an answer may be.
        """
        end = self._position + size
        while len(self._buffer) < end:
            if end - len(self._buffer) > self.bytes_left:
                raise TooMuchError
            self._fill()
        return self._taken(size)

    def read_some(self, most: int) -> bytes:
        """What comes next: at least one byte.

        Raises:
            TimeoutError: When nothing came in time.
            ConnectionResetError: When the other side ended the connection instead.
            TooMuchError: When the answer gets longer than any may be.
        """
        if self._position == len(self._buffer):
            self._fill()
        return self._taken(most)

    def has_extra(self) -> bool:
        """Whether more has come by now than was read."""
        with contextlib.suppress(*NOTHING_YET, TimeoutError, OSError):
            self._sock.settimeout(0)
            self._buffer += self._sock.recv(_READ_BYTES)
        return len(self._buffer) > self._position

    def start_tls(self, context: ssl.SSLContext, host: str | None) -> None:
        """Do the TLS handshake on it."""
        self._sock.settimeout(0)
        secured = context.wrap_socket(
            self._sock, server_hostname=host, do_handshake_on_connect=False
        )
        self._sock = secured
        self.in_time(secured.do_handshake)

    @property
    def tls_certificate(self) -> bytes | None:
        """The certificate of the other side, in DER; `None` without TLS."""
        sock = self._sock
        return sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None

    @property
    def alpn_protocol(self) -> str | None:
        """The protocol agreed on in TLS, by its ALPN name; `None` for none."""
        sock = self._sock
        return sock.selected_alpn_protocol() if isinstance(sock, ssl.SSLSocket) else None

    def say_goodbye(self, data: bytes) -> None:
        """Send what can be sent without waiting."""
        with contextlib.suppress(OSError, ValueError):
            self._sock.settimeout(0)
            self._sock.send(data)

    def _fill(self) -> None:
        data = self.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError
        self._buffer += data

    def _taken(self, most: int) -> bytes:
        data = bytes(self._buffer[self._position : self._position + most])
        self._position += len(data)
        return data
