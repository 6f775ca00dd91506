"""One connection, bounded in time and in size, that is read in exact pieces."""

import contextlib
import socket
import ssl
import time

MOST_BYTES = 256 * 1024
"""What one attempt may read. The longest greetings have some thousand bytes."""

_READ_BYTES = 4096
_NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TooMuchError(Exception):
    """More came than any answer has."""


class DeadlineStream:
    """Every call ends at one deadline, however slowly the other side sends.

    What was read stays until the next `write`: an attempt that ended in the middle of an answer is
    followed by one that reads it again from its beginning.

    Args:
        sock: The socket, connected.
        until: When to give up, in monotonic seconds.
    """

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._position = 0
        self.asked_at = time.monotonic()
        self.begin(until)

    def begin(self, until: float) -> None:
        """Count anew, for an attempt that ends then."""
        self._until = until
        self._bytes_left = MOST_BYTES

    def rewind(self) -> None:
        """Read again what came since the last `write`."""
        self._position = 0

    def write(self, data: bytes) -> None:
        """Send all of `data`, and forget what was read before."""
        del self._buffer[: self._position]
        self._position = 0
        self.asked_at = time.monotonic()
        # A server that turns its clients away says why and closes: what it said is still there to
        # be read, and if it said nothing, reading fails likewise.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            try:
                self._sock.settimeout(self._left())
                self._sock.sendall(data)
            except _NOTHING_YET:
                raise TimeoutError from None

    def read(self, size: int) -> bytes:
        """Exactly so many bytes.

        Raises:
            TimeoutError: When they did not come in time.
            ConnectionResetError: When the other side ended the connection instead.
            TooMuchError: When they, with all before, are more than an answer may have.
        """
        end = self._position + size
        while len(self._buffer) < end:
            if end - len(self._buffer) > self._bytes_left:
                raise TooMuchError
            self._fill()
        data = bytes(self._buffer[self._position : end])
        self._position = end
        return data

    def has_extra(self) -> bool:
        """Whether more has come by now than was read."""
        with contextlib.suppress(*_NOTHING_YET, TimeoutError, OSError):
            self._sock.settimeout(0)
            self._buffer += self._sock.recv(_READ_BYTES)
        return len(self._buffer) > self._position

    def start_tls(self, context: ssl.SSLContext, host: str | None) -> None:
        """Do the TLS handshake on it."""
        self._sock.settimeout(self._left() or 0.001)  # 0 would mean: do not wait
        self._sock = context.wrap_socket(self._sock, server_hostname=host)

    @property
    def tls_certificate(self) -> bytes | None:
        """The certificate of the other side, in DER; `None` without TLS."""
        sock = self._sock
        return sock.getpeercert(binary_form=True) if isinstance(sock, ssl.SSLSocket) else None

    def say_goodbye(self, data: bytes) -> None:
        """Send what can be sent without waiting."""
        with contextlib.suppress(OSError, ValueError):
            self._sock.settimeout(0)
            self._sock.send(data)

    def close(self) -> None:
        """Let go of the socket."""
        self._sock.close()

    def _fill(self) -> None:
        # Once the time is up it is tried without waiting: where this thread was not let run in
        # time, the answer may have been there long ago.
        self._sock.settimeout(self._left())
        try:
            data = self._sock.recv(_READ_BYTES)
        except _NOTHING_YET:
            raise TimeoutError from None
        if not data:
            raise ConnectionResetError
        self._buffer += data
        self._bytes_left -= len(data)

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic())
