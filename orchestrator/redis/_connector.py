"""From settings to an open connection. All in the worker's thread.

A connection is made in steps, each of which is a `ProbePhase`, so that a failure can say which one
took too long:

1. With sentinels, ask them for the master: see `_sentinels`.
2. Look up the name. A resolver cannot be interrupted; what it says too late is kept for the next
   attempt.
3. Connect a plain socket. A refusal is by far the most frequent failure, and costs a fraction of
   what redis-py needs to find it out.
4. A plain connection that a URL describes speaks RESP itself. For all others, only now load
   redis-py, ask the credential provider, and make redis-py's side of the connection.
5. Do the TLS handshake, then let the application's `redis_connect_func` greet, where there is one.
6. Send the greeting and what is asked in one go: together they cost one round trip.

Up to step 3 an attempt's deadline ends everything. From then on Redis has accepted the connection:
to give it up would make Redis do its work again, and a Redis to which a thousand instances return
would never finish any. So what follows may outlast the attempt, for as long as the policy's
`answer_patience_seconds`. `Progress.accepted_at` says so to the event loop.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator._probing.addresses import Address, connect, literal_address, look_up
from orchestrator._probing.interruption import InterruptedByUs, Interruption
from orchestrator.redis._errors import ApplicationError
from orchestrator.redis._expect import RedisCommand
from orchestrator.redis._installed import installed_redis_py
from orchestrator.redis._pipelined_connection import PipelinedConnection
from orchestrator.redis._plain_connection import PlainConnection
from orchestrator.redis._plain_options import plain_options
from orchestrator.redis._progress import ProbePhase, Progress
from orchestrator.redis._reply_socket import ReplySocket
from orchestrator.redis._sentinels import Sentinels
from orchestrator.redis._settings import RedisSettings

if TYPE_CHECKING:
    from orchestrator.redis._redis_py_connections import ProbeConnection


class Connector:
    """Opens connections.

    Args:
        settings: Where Redis is and how to log in.
        interruption: How an attempt is ended from outside.
        plain: Whether to do without redis-py where that is possible. Error replies are `ErrorReply`
            then.

    Attributes:
        progress: What is being done now.
        name_user: Whether to log in by user name and password, and not by the password alone.
        socket: What is asked on: Redis, or a sentinel meanwhile; `None` before that, and while
            another one is being opened.
    """

    def __init__(
        self, settings: RedisSettings, interruption: Interruption, *, plain: bool = False
    ) -> None:
        self.progress = Progress(settings.where)
        self.name_user = True
        self.socket: ReplySocket | None = None
        self._checked: dict[str, dict[str, Any]] = {}
        self._settings = settings
        self._interruption = interruption
        self._may_be_plain = plain
        self._sentinels: Sentinels | None = None
        if settings.sentinels:
            self._sentinels = Sentinels(settings, self._open, self.progress)

    def connect(
        self, deadline: float, commands: Sequence[RedisCommand], patience_seconds: float
    ) -> tuple[PipelinedConnection, list[RedisCommand]]:
        """A new connection to Redis, on which the greeting and `commands` were sent.

        Once it is accepted, it may take until the deadline or for `patience_seconds`, whichever
        is later. Returns also what was sent, for the replies to be awaited.
        """
        settings = self._settings
        self.progress.where = settings.where
        if self._sentinels is not None:
            host, port = self._sentinels.find_master(deadline)
            settings = replace(settings, host=host, port=port, sentinels=())
            self.progress.where = f"{self._settings.where} at {host}:{port}"
        connection = self._open(settings, deadline, patience_seconds)
        self.progress.phase = ProbePhase.PING
        try:
            return connection, connection.send([*connection.greeting, *commands])
        except BaseException:
            connection.close()
            raise

    @property
    def asks_sentinels(self) -> bool:
        """Whether sentinels say where Redis is."""
        return self._sentinels is not None

    def has_moved(self, deadline: float) -> bool:
        """Whether the sentinels name another master now; not where none of them says any.

        A server that was given up may go on calling itself a master for as long as no one tells it:
        one that was restarted, for about 10 s; one that is cut off from the sentinels, for ever.
        """
        if self._sentinels is None:
            return False
        before, where, sock = self._sentinels.master, self.progress.where, self.socket
        now = time.monotonic()
        try:
            with self._interruption.beside():
                return self._sentinels.find_master(now + (deadline - now) / 2) != before
        except InterruptedByUs:
            raise
        except Exception:  # that they cannot say says nothing about Redis
            return False
        finally:
            self.progress.where, self.progress.phase = where, ProbePhase.PING
            self.socket = sock

    # -- one connection ---------------------------------------------------------------------------

    def _open(
        self, settings: RedisSettings, deadline: float, patience_seconds: float | None = None
    ) -> PipelinedConnection:
        """A connection on which nothing was said, unless by the application's own function.

        Without patience the deadline ends every step.
        """
        progress = self.progress
        self.socket = None
        with ExitStack() as on_failure:
            sock = self._connected(settings, deadline)
            on_failure.callback(sock.close)
            accepted_at = 0.0 if patience_seconds is None else time.monotonic()
            redis_py = self._plain(settings) or self._made(settings, accepted_at)
            # From now on Redis has the turn: what came before was this process's own work.
            progress.accepted_at = time.monotonic() if accepted_at else 0.0
            until = deadline
            if patience_seconds is not None:
                until = max(deadline, time.monotonic() + patience_seconds)
            if settings.tls:
                progress.phase = ProbePhase.TLS
            sock.settimeout(max(until - time.monotonic(), 0.001))
            secured = redis_py.wrap(sock)
            bounded = ReplySocket(secured, deadline, settings.answer_seconds, until)
            self.socket = bounded
            opened = PipelinedConnection(redis_py, bounded)
            on_failure.callback(opened.close)
            own_greeting = settings.options.get("redis_connect_func") is not None
            progress.phase = ProbePhase.GREETING if own_greeting else ProbePhase.PING
            opened.start()
            on_failure.pop_all()
        return opened

    def _connected(self, settings: RedisSettings, deadline: float) -> socket.socket:
        """A plain socket that the server has accepted."""
        addresses = self._addresses(settings)
        self.progress.phase = ProbePhase.CONNECT
        if settings.connect_seconds is not None:
            deadline = min(deadline, time.monotonic() + settings.connect_seconds)
        return connect(addresses, deadline, self._interruption.adopt)

    def _addresses(self, settings: RedisSettings) -> list[Address]:
        if settings.path:
            return [(socket.AF_UNIX, settings.path)]
        host, port = settings.host, settings.port
        if found := literal_address(host, port):
            return found
        self.progress.phase = ProbePhase.RESOLVE
        return self._interruption.uninterruptible(
            (ProbePhase.RESOLVE, host, port), lambda: look_up(host, port)
        )

    def _plain(self, settings: RedisSettings) -> PlainConnection | None:
        """A connection without redis-py; `None` where that is needed."""
        self.progress.phase = ProbePhase.IMPORT
        installed = installed_redis_py() if self._may_be_plain else None
        options = None if installed is None else plain_options(settings, installed)
        if installed is None or options is None:
            return None
        return PlainConnection(settings, options, installed, name_user=self.name_user)

    def _made(self, settings: RedisSettings, accepted_at: float) -> "ProbeConnection":
        """redis-py's side of the connection, still without a socket."""
        # What a slow provider gives is kept for the next attempt, so this need not outlast its own.
        provided = settings.options.get("credential_provider") is not None
        self.progress.accepted_at = 0.0 if provided else accepted_at
        self.progress.phase = ProbePhase.IMPORT
        build = self._interruption.uninterruptible(ProbePhase.IMPORT, _import_builder)
        if provided:
            self.progress.phase = ProbePhase.CREDENTIALS
        login = self._interruption.uninterruptible(
            ProbePhase.CREDENTIALS, lambda: _credentials(settings)
        )
        return build(settings, login, name_user=self.name_user, checked=self._checked)


def _credentials(settings: RedisSettings) -> tuple[str, ...] | None:
    """What the credential provider gives to a client of its family; `None` without a provider."""
    provider = settings.options.get("credential_provider")
    if provider is None:
        return None
    from redis.credentials import CredentialProvider  # the client has loaded it

    own = getattr(type(provider), "get_credentials_async", None)
    inherited = getattr(CredentialProvider, "get_credentials_async", own)  # not in redis-py 5.0
    try:
        # The one that providers inherit calls the other, and warns in the log each time.
        if settings.asynchronous and own is not inherited:
            # This thread has no event loop of its own, so it may run one.
            given = asyncio.run(provider.get_credentials_async())
        else:
            given = provider.get_credentials()
        return tuple(given or ())
    except BaseException as error:
        raise ApplicationError("credential_provider", type(error).__name__) from error


def _import_builder() -> "Callable[..., ProbeConnection]":
    from orchestrator.redis._redis_py_connections import (  # loads redis, which is slow
        build_connection,
    )

    return build_connection
