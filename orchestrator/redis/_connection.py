"""The connections of redis-py that the probe uses. Importing this module imports redis.

The probe opens the socket; redis-py does TLS, writes the commands and reads the replies. Nothing
is sent that was not asked for: no driver info, no client name, no maintenance notifications. So
the first answer costs one round trip instead of five.
"""

import inspect
import socket
import ssl
import traceback
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from redis import Connection, SSLConnection, UnixDomainSocketConnection
from redis._parsers import _RESP2Parser, _RESP3Parser
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection
from redis.retry import Retry

from orchestrator.redis._settings import RedisSettings
from orchestrator.redis._wire import Wire


class ProbeConnection(Protocol):
    """What the probe uses of redis-py's connections; the same in all versions from 5.2 on."""

    def wrap(self, sock: socket.socket) -> socket.socket:
        """Do the TLS handshake, where there is one."""

    def start(self, wire: Wire) -> None:
        """Begin to use `wire`. In RESP3 this greets the server, and waits for its answer."""

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


def build_connection(settings: RedisSettings, login: tuple[str, ...]) -> ProbeConnection:
    """A connection that has no socket yet.

    Args:
        settings: Where Redis is.
        login: User name and password, or a password. Used in RESP3 only, where the greeting logs
            in; in RESP2 the probe sends AUTH together with its other commands.
    """
    options: dict[str, object] = {
        "protocol": settings.protocol,
        "retry": Retry(NoBackoff(), 0),
        # The parser of hiredis, where that is installed, reserves as much memory as a server
        # says that its reply will have; this one takes what comes.
        "parser_class": _RESP3Parser if settings.protocol == 3 else _RESP2Parser,  # noqa: PLR2004
    }
    kind: Callable[..., object] = _Plain
    if settings.path:
        kind = _Unix
        options["path"] = settings.path
    else:
        options.update(host=settings.host, port=settings.port)
        if settings.tls is not None:
            kind = _Tls
            options.update(settings.tls)
    if login and settings.protocol == 3:  # noqa: PLR2004  the version of RESP
        options["password"] = login[-1]
        options["username"] = login[0] if len(login) > 1 else None
    return cast("ProbeConnection", kind(**options, **_SILENT))


def _silent() -> dict[str, None]:
    """The options that keep a connection from introducing itself, as this redis-py calls them."""
    known = inspect.signature(AbstractConnection).parameters
    return dict.fromkeys(
        ("driver_info",) if "driver_info" in known else ("lib_name", "lib_version")
    )


_SILENT = _silent()


class _Given:
    """Takes a socket that is open already, where redis-py would open one."""

    _wire: Wire

    def wrap(self, sock: socket.socket) -> socket.socket:
        return sock

    def start(self, wire: Wire) -> None:
        self._wire = wire
        self.connect()

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # the class that this is mixed into has it

    def _connect(self) -> Wire:
        return self._wire


class _Plain(_Given, Connection):
    pass


class _Unix(_Given, UnixDomainSocketConnection):
    pass


class _Tls(_Given, SSLConnection):
    def wrap(self, sock: socket.socket) -> socket.socket:
        try:
            wrapped: socket.socket = self._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]  # redis-py's
        except OSError as error:
            _close_half_made(error)
            raise
        return wrapped


def _close_half_made(error: OSError) -> None:
    """Close the socket that `ssl` was making when the connection was reset.

    It takes our descriptor over first and then looks at the peer; where that fails with a reset, it
    leaves the new socket open, and only the traceback still knows it (Python 3.11 and 3.13 do).
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        maker = frame.f_locals.get("self")
        if isinstance(maker, ssl.SSLSocket):
            maker.close()
