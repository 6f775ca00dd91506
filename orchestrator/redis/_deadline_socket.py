"""One socket to Redis, bounded in time and in size."""

import contextlib
import math
import socket
import ssl
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator.redis._errors import NotRedisError, SlowAnswerError

_T = TypeVar("_T")

MOST_BYTES = 256 * 1024
"""What one attempt may read. A greeting in RESP3 with modules takes some thousand bytes."""


_REPLY_TYPES = b"+-:$*_#,(!=%~>|"
"""With one of these bytes begins every reply, in RESP2 or RESP3."""


class DeadlineSocket:
    """What redis-py takes for its socket: every call ends at one deadline.

    A timeout per call, which is all that a socket has, would let a server that sends one byte at
    a time hold an attempt for ever.

    Args:
        sock: The socket.
        deadline: When the attempt ends, in monotonic seconds.
        answer_seconds: How long the application's client would wait for any byte; `None` for as
            long as it takes. That is not asked of what outlasts the attempt.
        until: When to give up the first answers, where that is later than the attempt's end.
    """

    def __init__(
        self,
        sock: socket.socket,
        deadline: float,
        answer_seconds: float | None = None,
        until: float = 0.0,
    ) -> None:
        self._sock = sock
        self._answer_seconds = answer_seconds
        self._waits = True
        self._fresh = True
        self.begin(deadline)
        self._until = max(deadline, until)

    def begin(self, deadline: float) -> None:
        """Start to count anew, for the attempt that ends at `deadline`."""
        self._deadline = self._until = deadline
        self._bytes_left = MOST_BYTES

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Take over whether to wait at all; how long is a matter of the deadline."""
        self._waits = seconds != 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read what there is, until the deadline."""
        data = self._in_time(lambda: self._sock.recv(size, flags))
        self._check(data[:1], len(data))
        return data

    def recv_into(self, buffer: bytearray) -> int:
        """Read what there is into `buffer`, until the deadline."""
        size = self._in_time(lambda: self._sock.recv_into(buffer))
        self._check(bytes(buffer[:1]), size)
        return size

    def sendall(self, data: bytes) -> None:
        """Write all of `data`, until the deadline."""
        # A server that turns its clients away says why and closes: what it said is still there to
        # be read, and if it said nothing, reading fails likewise.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            try:
                self._sock.settimeout(self._left())
                self._sock.sendall(data)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise TimeoutError from None

    def shutdown(self, how: int) -> None:
        """End the connection both ways."""
        self._sock.shutdown(how)

    def close(self) -> None:
        """Let go of the socket."""
        self._sock.close()

    def _in_time(self, step: Callable[[], _T]) -> _T:
        """Do a step that may wait until the deadline, but no longer than the client would.

        Once that has passed it is tried without waiting: where this thread was not let run in time,
        the answer may have been there long ago.
        """
        left, limit = self._left(), self._answer_seconds or math.inf
        if time.monotonic() + limit >= self._deadline:
            limit = math.inf
        if left:
            self._sock.settimeout(min(left, limit))
            try:
                return step()
            except TimeoutError:
                pass
        self._sock.settimeout(0)
        try:
            return step()
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not self._waits:
                raise
            raise (SlowAnswerError(limit) if limit < left else TimeoutError) from None

    def _left(self) -> float:
        return max(0.0, self._until - time.monotonic()) if self._waits else 0.0

    def _check(self, first: bytes, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0 or (self._fresh and size and first not in _REPLY_TYPES):
            raise NotRedisError
        self._fresh = False
