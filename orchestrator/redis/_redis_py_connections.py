"""The connections of redis-py that the probe uses. Importing this module imports redis.

The probe opens the socket; redis-py does TLS, says how it would greet the server, writes the
commands and reads the replies. The greeting is that of the application, whatever this redis-py
makes of its options: HELLO or AUTH, the client's name, its library, the database. But redis-py
sends one command and waits for its reply before it sends the next, and the probe sends all of them
in one go: the first answer costs one round trip instead of five.
"""

import socket
import ssl
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import redis.asyncio
from redis import Connection, SSLConnection, UnixDomainSocketConnection
from redis._parsers import _RESP2Parser, _RESP3Parser
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.retry import Retry

from orchestrator.redis._errors import (
    ApplicationError,
    BadOptionsError,
    NotRedisError,
    SlowAnswerError,
)
from orchestrator.redis._expect import RedisCommand
from orchestrator.redis._greeting import Greeter, Recording, greeting_of, run_function
from orchestrator.redis._redis_py_options import for_probe, of_url, refused_option
from orchestrator.redis._reply_socket import ReplySocket
from orchestrator.redis._settings import RedisSettings
from orchestrator.redis._tls_faults import fault_of_ours


class ProbeConnection(Protocol):
    """What the probe uses of redis-py's connections; the same in all versions from 5.0 on.

    Attributes:
        greeting: What redis-py would send before anything else, once `start` has returned. Empty
            where the application's own function has greeted the server already.
    """

    greeting: list[RedisCommand]

    def wrap(self, sock: socket.socket) -> socket.socket:
        """Do the TLS handshake, where there is one."""

    def start(self, sock: ReplySocket) -> None:
        """Begin to use `sock`; with a function of the application's that greets, run it."""

    def disconnect(self) -> None:
        """Close the socket."""

    def pack_commands(self, commands: Sequence[Sequence[object]]) -> list[bytes]:
        """The bytes of commands."""

    def send_packed_command(self, command: list[bytes], check_health: bool) -> None:
        """Write them."""

    def read_response(self, *, disconnect_on_error: bool) -> object:
        """Wait for one reply."""

    def can_read(self, timeout: float) -> bool:
        """Whether there is something more to be read."""


def build_connection(
    settings: RedisSettings,
    login: tuple[str, ...] | None,
    *,
    name_user: bool,
    checked: dict[str, dict[str, Any]],
) -> ProbeConnection:
    """A connection that has no socket yet.

    Args:
        settings: Where Redis is, and the options.
        login: User name and password, or a password, from a credential provider; `None` without
            one, where the options say it.
        name_user: Whether to log in by user name and password, and not by the password alone.
        checked: The options of URLs that were looked at before; this one's are added.

    Raises:
        BadOptionsError: When redis-py cannot make a connection with the options.
    """
    theirs, kind = _kinds(settings)
    if settings.url and settings.url not in checked:
        checked[settings.url] = _checked(settings.url, theirs)
    given = checked[settings.url] if settings.url else settings.options
    options = for_probe(given, kind, asynchronous=settings.asynchronous)
    if settings.path:
        options["path"] = settings.path
    else:
        options.update(host=settings.host, port=settings.port)
    if settings.tls and options.get("ssl_password") is None:
        # Without a pass phrase, OpenSSL would ask the terminal or read standard input for it.
        options["ssl_password"] = ""
    if login is not None:
        options["credential_provider"] = _Given(login if name_user else login[-1:])
    elif not name_user:
        options["username"] = None
    greets = options.pop("redis_connect_func", None)
    try:
        connection: Any = kind(**options, retry=Retry(NoBackoff(), 0))
    except Exception:  # nothing is asked of the network here
        raise BadOptionsError from None
    # The parser of hiredis, where that is installed, reserves as much memory as a server says that
    # its reply will have; this one takes what comes.
    connection.set_parser(_RESP3Parser if connection.protocol == 3 else _RESP2Parser)  # noqa: PLR2004  the version of RESP
    connection.greet_by(greets, asynchronous=settings.asynchronous)
    return cast("ProbeConnection", connection)


def _checked(url: str, kind: Callable[..., object]) -> dict[str, Any]:
    try:
        options = of_url(url)
    except Exception:  # nothing is asked of the network here
        raise BadOptionsError from None
    if (refused := refused_option(kind, options)) is not None:
        raise BadOptionsError(refused)
    return options


def _kinds(settings: RedisSettings) -> tuple[Callable[..., object], Callable[..., object]]:
    """The class of redis-py's connections that would be used, and the probe's."""
    if settings.path:
        return UnixDomainSocketConnection, _Unix
    if settings.tls:
        return SSLConnection, _Tls
    return Connection, _Plain


class _Given(CredentialProvider):
    """Credentials that the application's provider has given already."""

    def __init__(self, login: tuple[str, ...]) -> None:
        self._login = login

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        return cast("tuple[str, str]", self._login)


class _Opened:
    """Takes a socket that is open already, where redis-py would open one."""

    greeting: list[RedisCommand]
    _socket: object
    recording: Recording | None = None

    def wrap(self, sock: socket.socket) -> socket.socket:
        return sock

    def start(self, sock: ReplySocket) -> None:
        self._socket = sock
        self.connect()

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # the class that this is mixed into has it

    def _connect(self) -> object:
        return self._socket

    def greet_by(self, function: Callable[[object], object] | None, *, asynchronous: bool) -> None:
        """Say what to do once the socket is there: `function`, or what redis-py does."""

        def greet(_connection: object) -> None:
            self.greeting = []
            if function is None:
                self.greeting = greeting_of(cast("Greeter", self))
                return
            try:
                run_function(function, self, asynchronous=asynchronous)
            except (redis.RedisError, NotRedisError, SlowAnswerError):
                raise
            except BaseException as error:
                raise ApplicationError("redis_connect_func", type(error).__name__) from error

        self.redis_connect_func: Any = greet

    # What follows is called by redis-py's own `on_connect`.

    def send_command(self, *words: object, **how: object) -> None:
        if self.recording is None:
            super().send_command(*words, **how)  # type: ignore[misc]  # as above
        else:
            self.recording.commands.append(words)

    def read_response(self, *args: object, **how: object) -> object:
        if self.recording is None:
            return super().read_response(*args, **how)  # type: ignore[misc]  # as above
        return self.recording.reply()


class _Plain(_Opened, Connection):
    def wrap(self, sock: socket.socket) -> socket.socket:
        _keep_alive(self, sock)
        return sock


class _Unix(_Opened, UnixDomainSocketConnection):
    pass


class _Bare(Connection):
    """Has a socket below TLS."""

    _bare: socket.socket

    def _connect(self) -> socket.socket:
        return self._bare


class _Tls(_Opened, SSLConnection, _Bare):  # type: ignore[misc]  # `_Bare` is the one below TLS
    def wrap(self, sock: socket.socket) -> socket.socket:
        self._bare = sock
        _keep_alive(self, sock)
        try:
            # It asks the class after it, which is `_Bare`, for the socket.
            wrapped: socket.socket = SSLConnection._connect(self)  # type: ignore[no-untyped-call]  # noqa: SLF001  redis-py's
        except Exception as error:
            _close_half_made(error)
            if (fault := fault_of_ours(error, self)) is not None:
                raise fault from None
            raise
        return wrapped


def _keep_alive(connection: Connection, sock: socket.socket) -> None:
    if not connection.socket_keepalive:
        return
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in connection.socket_keepalive_options.items():
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except (OSError, TypeError):
        raise BadOptionsError("socket_keepalive_options") from None


def _close_half_made(error: Exception) -> None:
    """Close the sockets that were being made when TLS failed.

    `ssl` takes our descriptor over first and then looks at the peer; where that fails with a reset,
    it leaves the new socket open, and only the traceback still knows it (Python 3.11 and 3.13 do).
    So does redis-py where a check that comes after the handshake fails.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for name in ("self", "sslsock"):
            maker = frame.f_locals.get(name)
            if isinstance(maker, ssl.SSLSocket):
                maker.close()
