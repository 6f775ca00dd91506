"""One socket, bounded in time and in size.

A timeout for each call, which is all that a socket has, would let a server that sends one byte at a
time hold an attempt for ever.

To read is to wait first, and then to take what is there. What the system has taken from the socket
for a thread that lacks the interpreter would look like silence to the other threads; so nothing is
taken before `waits_since` says that the wait is over. Sending goes the same way.

What passes between two waits, and between bytes that came and the end of their wait, is this
process' own doing: it may lack the interpreter, or a processor. `held_seconds` counts that.
"""

import contextlib
import math
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

MOST_BYTES = 256 * 1024
"""What one attempt may read. The longest greetings have some thousand bytes."""

_MOST_POLL_SECONDS = 2_000_000.0
"""poll(2) counts milliseconds in 31 bits."""

_SURELY_QUICK_SECONDS = 0.002
"""Bytes that were taken so soon need not be asked when they came."""

_LAST_DATA_RECEIVED = struct.Struct("=52xI")
"""In the kernel's `struct tcp_info` (linux/tcp.h): how many milliseconds ago data came last."""

NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TooMuchError(Exception):
    """More came than any answer would have."""


class DeadlineSocket:
    """Every call ends at one deadline, however slowly the other side sends.

    Args:
        sock: The socket, connected.
        until: When to give up, in monotonic seconds.

    Attributes:
        bytes_left: How much this attempt may still read.
        waits_since: Since when the thread has waited for bytes, or for room to send some, in
            monotonic seconds; 0 while it does not wait.
    """

    def __init__(self, sock: socket.socket, until: float) -> None:
        self._sock = sock
        self.waits_since = 0.0
        self.begin(until)

    @property
    def held_seconds(self) -> float:
        """How much of this attempt has passed without the other side having the turn."""
        now = time.monotonic()
        return self._held_seconds + (0.0 if self.waits_since else now - self._turn_at)

    @property
    def socket(self) -> socket.socket:
        """What it reads from."""
        return self._sock

    def begin(self, until: float, began_at: float | None = None) -> None:
        """Count from zero, for an attempt that ends at `until`, and began now or at `began_at`."""
        self._until = until
        self.bytes_left = MOST_BYTES
        self._held_seconds = 0.0
        self._turn_at = time.monotonic() if began_at is None else began_at

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
            until = time.monotonic() + self.seconds_left()
            self._sock.settimeout(0)
            rest = memoryview(data)
            while rest:
                try:
                    rest = rest[self._sock.send(rest) :]
                except NOTHING_YET as error:
                    if not self._wait(until, writes=not isinstance(error, ssl.SSLWantReadError)):
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
        until = min(self._until, time.monotonic() + limit)
        self._sock.settimeout(0)
        # TLS may have read before what it has not handed out yet.
        is_up, writes = False, False
        if not isinstance(self._sock, ssl.SSLSocket):
            is_up = not self._wait(until)
        while True:
            try:
                return step()
            except NOTHING_YET as error:
                writes = isinstance(error, ssl.SSLWantWriteError)
            if is_up:
                raise TimeoutError
            is_up = not self._wait(until, writes=writes)

    def _wait(self, until: float, *, writes: bool = False) -> bool:
        """Wait for something to be there, or for room; return whether it is, and not too late."""
        now = time.monotonic()
        self._held_seconds += now - self._turn_at
        self.waits_since = now
        is_ready = False
        try:
            is_ready = now < until and _is_ready(self._sock, until - now, writes=writes)
        finally:
            self._turn_at, self.waits_since = time.monotonic(), 0.0
        if is_ready and self._turn_at - now > _SURELY_QUICK_SECONDS:
            self._held_seconds += min(self._turn_at - now, seconds_since_data(self._sock))
        return is_ready

    def count(self, first: bytes, size: int) -> None:
        """Take note of what was read; `first` is its first byte.

        Raises:
            TooMuchError: When that is more than one attempt may read.
        """
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise TooMuchError


def seconds_since_data(sock: socket.socket) -> float:
    """How long ago the last data came, or the connection was accepted.

    0 where that is not known: off Linux, and on Unix sockets.
    """
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
        (milliseconds,) = _LAST_DATA_RECEIVED.unpack(info)
    except (OSError, AttributeError, struct.error):
        return 0.0
    return float(milliseconds) / 1000


if hasattr(select, "poll"):

    def _is_ready(sock: socket.socket, seconds: float, *, writes: bool) -> bool:
        poll = select.poll()
        poll.register(sock, select.POLLOUT if writes else select.POLLIN)
        return bool(poll.poll(min(seconds, _MOST_POLL_SECONDS) * 1000))

else:  # on Windows, where descriptors of any number can be selected

    def _is_ready(sock: socket.socket, seconds: float, *, writes: bool) -> bool:
        chosen = [sock]
        ready = select.select([] if writes else chosen, chosen if writes else [], [], seconds)
        return any(ready)
