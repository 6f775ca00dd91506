"""One socket, bounded in time and in size.

A timeout per call, which is all that a socket has, would let a server that sends one byte at a time
hold an attempt for ever.
"""

import contextlib
import math
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

MOST_BYTES = 256 * 1024
"""What one attempt may read. The longest greetings have some thousand bytes."""

NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TooMuchError(Exception):
    """More came than any answer has."""


class DeadlineSocket:
    """Every call ends at one deadline, however slowly the other side sends.

    Args:
        sock: The socket, connected.
        until: When to give up, in monotonic seconds.
    """

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self.begin(until)

    def begin(self, until: float) -> None:
        """Count anew, for an attempt that ends then."""
        self._until = until
        self._bytes_left = MOST_BYTES

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read what there is; empty once the other side has closed."""
        data = self.in_time(lambda: self._sock.recv(size, flags))
        self.count(data[:1], len(data))
        return data

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        # A server that turns its clients away says why and closes: what it said is still there to
        # be read, and if it said nothing, reading fails likewise.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            try:
                self._sock.settimeout(self.seconds_left())
                self._sock.sendall(data)
            except NOTHING_YET:
                raise TimeoutError from None

    def close(self) -> None:
        """Let go of the socket."""
        self._sock.close()

    def seconds_left(self) -> float:
        """How long a call may wait."""
        return max(0.0, self._until - time.monotonic())

    def in_time(self, step: Callable[[], _T], limit: float = math.inf) -> _T:
        """Read, and wait at most until the deadline, and for `limit` seconds.

        Once the time is up it is tried without waiting: where this thread was not let run in time,
        the answer may have been there long ago.
        """
        if left := self.seconds_left():
            self._sock.settimeout(min(left, limit))
            try:
                return step()
            except TimeoutError:
                pass
        self._sock.settimeout(0)
        try:
            return step()
        except NOTHING_YET:
            raise TimeoutError from None

    def count(self, first: bytes, size: int) -> None:
        """Take note of what was read; `first` is its first byte.

        Raises:
            TooMuchError: When that is more than one attempt may read.
        """
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise TooMuchError
