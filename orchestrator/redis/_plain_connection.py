"""A connection over plain TCP or a Unix socket, on which the probe speaks RESP itself.

It greets as the installed redis-py would, which `tests/redis/test_plain_greeting.py` compares.
"""

import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from orchestrator.redis._expect import RedisCommand, greeted, ok
from orchestrator.redis._installed import InstalledRedisPy
from orchestrator.redis._reply_socket import ReplySocket
from orchestrator.redis._resp import RESP2, RESP3, ReplyReader, packed
from orchestrator.redis._settings import RedisSettings

_IDLE_SECONDS, _INTERVAL_SECONDS, _PROBES = 30, 5, 3
"""How redis-py keeps connections alive, where it does so by default."""


class PlainConnection:
    """Stands in for a connection of redis-py's; see `ProbeConnection`.

    Args:
        settings: Where Redis is.
        options: The options of its URL that matter to the greeting.
        installed: Which redis-py would connect.
        name_user: Whether to log in by user name and password, and not by the password alone.

    Attributes:
        greeting: What redis-py would send before anything else, once `start` has returned.
    """

    greeting: list[RedisCommand]
    _socket: ReplySocket
    _reader: ReplyReader

    def __init__(
        self,
        settings: RedisSettings,
        options: Mapping[str, str],
        installed: InstalledRedisPy,
        *,
        name_user: bool,
    ) -> None:
        self._settings = settings
        self._options = options
        self._installed = installed
        self._user = options.get("username", "") if name_user else ""
        self._version = installed.protocol_of(options)

    def wrap(self, sock: socket.socket) -> socket.socket:
        """Keep the connection alive as redis-py would; there is no TLS."""
        if self._installed.keeps_alive and not self._settings.path:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for names, value in (
                (("TCP_KEEPIDLE", "TCP_KEEPALIVE"), _IDLE_SECONDS),  # the one on macOS
                (("TCP_KEEPINTVL",), _INTERVAL_SECONDS),
                (("TCP_KEEPCNT",), _PROBES),
            ):
                if known := [name for name in names if hasattr(socket, name)]:
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, known[0]), value)
        return sock

    def start(self, sock: ReplySocket) -> None:
        """Begin to use `sock`."""
        self._socket = sock
        self._reader = ReplyReader(sock, self._version)
        self.greeting = self._greeting(sock)

    def disconnect(self) -> None:
        """Nothing is to be said; whoever opened the socket closes it."""

    def pack_commands(self, commands: Sequence[Sequence[object]]) -> list[bytes]:
        """The bytes of commands."""
        return [b"".join(map(packed, commands))]

    def send_packed_command(self, command: list[bytes], check_health: bool) -> None:
        """Write them."""
        for data in command:
            self._socket.sendall(data)

    def read_response(self, *, disconnect_on_error: bool) -> object:
        """Wait for one reply."""
        return self._reader.read()

    def can_read(self, timeout: float) -> bool:
        """Whether there is something more to be read."""
        return self._reader.holds_more or self._socket.has_more()

    # -- the greeting ------------------------------------------------------------------------------

    def _greeting(self, sock: ReplySocket) -> list[RedisCommand]:
        commands = [*self._login(), *self._notices(sock)]
        if name := self._options.get("client_name"):
            commands.append(RedisCommand(("CLIENT", "SETNAME", name), ok))
        for what, value in (("LIB-NAME", "redis-py"), ("LIB-VER", self._installed.version)):
            commands.append(RedisCommand(("CLIENT", "SETINFO", what, value), ok, may_fail=True))
        if self._settings.db:
            commands.append(RedisCommand(("SELECT", self._settings.db), ok))
        return commands

    def _login(self) -> list[RedisCommand]:
        password = self._options.get("password", "")
        login = (self._user, password) if self._user else (password,) if password else ()
        if self._version == RESP2:
            return [RedisCommand(("AUTH", *login), ok)] if login else []
        if len(login) == 1:
            login = ("default", *login)
        words = ("HELLO", RESP3, "AUTH", *login) if login else ("HELLO", RESP3)
        return [RedisCommand(words, greeted)]

    def _notices(self, sock: ReplySocket) -> list[RedisCommand]:
        """The wish to be told of maintenance, which few servers know."""
        if self._version == RESP2 or self._settings.path or not self._installed.wants_notices:
            return []
        wish = ("CLIENT", "MAINT_NOTIFICATIONS", "ON", "moving-endpoint-type")
        return [RedisCommand((*wish, self._endpoint(sock)), ok, may_fail=True)]

    def _endpoint(self, sock: ReplySocket) -> str:
        """In which form the client wants to hear of another server."""
        try:
            address, form = ip_address(self._settings.host), "ip"
        except ValueError:
            address, form = ip_address(sock.peer_host()), "fqdn"
        return f"{'internal' if address.is_private else 'external'}-{form}"
