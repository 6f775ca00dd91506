"""A reader's one connection to Redis, bounded in time and in size. Loads redis-py.

redis-py knows how to log in; everything else that it would do is kept from it. It repeats nothing
by itself, its replies are those of RESP2 whatever the URL says, and no reply is longer than 8 MiB:
whoever may write to the keys could fill the memory of every reader otherwise. The parser of
hiredis would reserve as much as a server announces, so it is not used.

`shut` ends whatever the connection waits for, from any thread.
"""

import contextlib
import socket
from collections.abc import Sequence
from typing import Any, Protocol, cast

import redis
from redis._parsers import _RESP2Parser
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator._hardening.text import bracketed, one_line

MOST_REPLY_BYTES = 8 * 1024 * 1024

_TIMEOUT_SECONDS = 3.0
"""How long any step may take. Redis keeps a reader waiting for 1 s at most."""

_DROPPED = ("timeout", "decode_responses", "health_check_interval", "retry_on_timeout")
"""Options of a URL that would change what is read, or that are of a pool."""


class TooLongError(Exception):
    """A reply is longer than any that an honest fleet gives."""


class _RedisPy(Protocol):
    """What is used of redis-py's connections; alike in all versions from 5.0 on."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_commands(self, commands: Sequence[Sequence[object]]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...
    def read_response(self) -> object: ...
    def set_parser(self, parser: type[object]) -> None: ...


class _BoundedSocket:
    """What redis-py takes for its socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.bytes_left = MOST_REPLY_BYTES

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)

    def fileno(self) -> int:
        return self._sock.fileno()

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = self._sock.recv(size, flags)
        self.bytes_left -= len(data)
        if self.bytes_left < 0:
            raise TooLongError
        return data


class _Bounded:
    """Mixed into a class of redis-py's connections."""

    bounded: _BoundedSocket

    def _connect(self) -> object:
        self.bounded = _BoundedSocket(super()._connect())  # type: ignore[misc]  # it is redis-py's
        return self.bounded


class ReaderConnection:
    """One connection.

    Args:
        url: Where Redis is, and how to log in.

    Attributes:
        where: The place in words, such as `redis at 127.0.0.1:6379`.

    Raises:
        ValueError: When the URL can't be used. Nothing of it is in the text.
    """

    def __init__(self, url: str) -> None:
        try:
            pool = redis.ConnectionPool.from_url(url)
            options: dict[str, Any] = dict(pool.connection_kwargs)
            for name in _DROPPED:
                options.pop(name, None)
            options |= {
                "protocol": 2,
                "retry": Retry(NoBackoff(), 0),
                "retry_on_error": [],
                "socket_timeout": _TIMEOUT_SECONDS,
                "socket_connect_timeout": _TIMEOUT_SECONDS,
            }
            kind = type("FleetConnection", (_Bounded, pool.connection_class), {})
            self._connection = cast("_RedisPy", kind(**options))
        except Exception:  # whatever redis-py raises for it may have the password in its text
            raise ValueError(
                "the Redis URL can't be used: write redis://host:6379/0, and percent-encode"
                " special characters in the password"
            ) from None
        self._connection.set_parser(_RESP2Parser)
        address = options.get("path") or f"{bracketed(str(options.get('host', 'localhost')))}:"
        port = "" if options.get("path") else options.get("port", 6379)
        self.where = one_line(f"redis at {address}{port}", 300)
        self._handle: socket.socket | None = None
        self._shut = False

    def open(self) -> None:
        """Connect and log in.

        Raises:
            redis.RedisError: When that fails.
            OSError: When that fails.
        """
        self._connection.connect()
        # A socket of our own for the connection, since TLS' own must not be touched meanwhile.
        self._handle = socket.fromfd(self._socket.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        if self._shut:
            raise ConnectionError

    def ask(self, *commands: Sequence[object]) -> list[object]:
        """Send commands in one go; return their replies, of which each may be an error of Redis.

        Raises:
            redis.ConnectionError: When the connection is gone.
            redis.TimeoutError: When no answer came in time.
            OSError: When the connection is gone.
            TooLongError: When the replies are longer than 8 MiB.
        """
        self._socket.bytes_left = MOST_REPLY_BYTES
        packed = self._connection.pack_commands(commands)
        self._connection.send_packed_command(packed, check_health=False)
        return [self._reply() for _ in commands]

    def ask_one(self, *command: object) -> object:
        """Send one command; return its reply.

        Raises:
            redis.ResponseError: When Redis says that it is an error.
            redis.ConnectionError: As `ask`; so are the other errors.
        """
        (reply,) = self.ask(command)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _reply(self) -> object:
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return error

    @property
    def _socket(self) -> _BoundedSocket:
        return cast("_Bounded", self._connection).bounded

    def shut(self) -> None:
        """End it, from any thread: whoever waits for a reply gets an error at once."""
        self._shut = True
        if self._handle is not None:
            with contextlib.suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection, in the thread that uses it."""
        with contextlib.suppress(Exception):  # it is given up, whatever redis-py says
            self._connection.disconnect()
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()
