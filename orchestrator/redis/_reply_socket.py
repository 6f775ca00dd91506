"""What redis-py takes for its socket: one that keeps the deadline, and hears Redis alone."""

import math
import socket
import time
from collections.abc import Callable
from typing import TypeVar

from orchestrator._probing.deadline_socket import NOTHING_YET, DeadlineSocket, TooMuchError
from orchestrator.redis._errors import LongReplyError, NotRedisError, SlowAnswerError

_T = TypeVar("_T")

_REPLY_TYPES = b"+-:$*_#,(!=%~>|"
"""With one of these bytes begins every reply, in RESP2 or RESP3."""


class ReplySocket(DeadlineSocket):
    """A socket to Redis.

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
        self._answer_seconds = answer_seconds or math.inf
        self._waits = True
        self._fresh = True
        super().__init__(sock, deadline)
        self._until = max(deadline, until)

    def begin(
        self, until: float, began_at: float | None = None, *, most_bytes: int | None = None
    ) -> None:
        """Count from zero, for an attempt that ends at `until`, and began now or at `began_at`.

        Args:
            until: When it ends, in monotonic seconds.
            began_at: When it began; `None` for now.
            most_bytes: How much it may read, if that is more than a probe may.
        """
        super().begin(until, began_at)
        self._deadline = until
        self._may_be_long = most_bytes is not None
        self.bytes_left = most_bytes or self.bytes_left

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Take over whether to wait at all; how long is a matter of the deadline."""
        self._waits = seconds != 0

    def recv_into(self, buffer: bytearray) -> int:
        """Read what there is into `buffer`, until the deadline."""
        size = self.in_time(lambda: self._sock.recv_into(buffer))
        self.count(bytes(buffer[:1]), size)
        return size

    def has_more(self) -> bool:
        """Whether something has come by now, or the other side has closed."""
        self._sock.settimeout(0)
        try:
            self._sock.recv(1)
        except NOTHING_YET:
            return False
        return True

    def peer_host(self) -> str:
        """The address of the other side, on TCP.

        Raises:
            ConnectionResetError: When it has gone.
        """
        try:
            return str(self._sock.getpeername()[0])
        except OSError:
            raise ConnectionResetError from None

    def shutdown(self, how: int) -> None:
        """End the connection both ways."""
        self._sock.shutdown(how)

    def seconds_left(self) -> float:
        """How long a call may wait."""
        return super().seconds_left() if self._waits else 0.0

    def in_time(self, step: Callable[[], _T], limit: float = math.inf) -> _T:
        """Read, until the deadline, but wait no longer than the application's client would."""
        if not self._waits:
            self._sock.settimeout(0)
            return step()
        left, limit = self.seconds_left(), min(limit, self._answer_seconds)
        if time.monotonic() + limit >= self._deadline:
            limit = math.inf
        try:
            return super().in_time(step, limit)
        except TimeoutError:
            if limit < left:
                raise SlowAnswerError(limit) from None
            raise

    def count(self, first: bytes, size: int) -> None:
        """Refuse what no Redis says."""
        try:
            super().count(first, size)
        except TooMuchError:
            raise (LongReplyError if self._may_be_long else NotRedisError) from None
        if self._fresh and size and first not in _REPLY_TYPES:
            raise NotRedisError
        self._fresh = False
