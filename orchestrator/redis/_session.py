"""The blocking side of the probe: one connection, and one question with one deadline.

All of it runs in the worker's thread, except `interrupt` and `watch`.
"""

import asyncio
import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from orchestrator.redis._failures import (
    CLOSED,
    OLD_LOGIN,
    BadOptionsError,
    Phase,
    Situation,
    WrongAnswerError,
    classify,
)
from orchestrator.redis._settings import RedisSettings
from orchestrator.redis._wire import (
    Address,
    NotRedisError,
    Wire,
    connect,
    literal_address,
    look_up,
)
from states import Failure

if TYPE_CHECKING:
    from orchestrator.redis._connection import ProbeConnection

_T = TypeVar("_T")

_PATIENCE = 3
"""So many attempts may wait for one PING in vain. Then the connection is taken for half open: the
other side may have forgotten it, and would never answer."""


class _Interrupted(Exception):  # noqa: N818  it is no error: nobody waits for the result any more
    """The attempt was given up from outside."""


class Session:
    """One connection to one Redis, kept from attempt to attempt.

    Args:
        settings: Where Redis is and how to log in.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.phase = Phase.CONNECT
        self._settings = settings
        self._connection: ProbeConnection | None = None
        self._wire: Wire | None = None
        self._pending: deque[str] = deque()
        self._unanswered = 0
        self._name_user = True
        self._kept: dict[Phase, object] = {}
        self._lock = threading.RLock()  # a finalizer may come in between, and stop us
        self._interrupted = False
        self._handle: socket.socket | None = None

    # -- from other threads -----------------------------------------------------------------------

    def interrupt(self) -> None:
        """Make the question under way end as soon as the operating system allows."""
        with self._lock:
            self._interrupted = True
            if self._handle is not None:
                with contextlib.suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def watch(self) -> socket.socket | None:
        """A handle on the connection's socket that the caller owns; `None` without a connection."""
        with self._lock:
            return None if self._handle is None else self._handle.dup()

    # -- in the worker's thread -------------------------------------------------------------------

    def rearm(self) -> None:
        """Forget the interruption of the question before."""
        self._interrupted = False

    def ask(self, deadline: float, timeout_seconds: float) -> Failure | None:
        """PING, over the open connection or a new one; why it failed, or `None`."""
        warm = self._connection is not None
        failure = self._ask_once(deadline, timeout_seconds)
        if failure is None:
            return None
        if failure.error_type == OLD_LOGIN and self._name_user:
            # A server before version 6 knows no user names. redis-py asks again without, too.
            self._name_user = False
            return self._ask_once(deadline, timeout_seconds)
        if failure.error_type == CLOSED and warm and not self._interrupted:
            # That the old connection has ended says nothing about Redis: many servers and proxies
            # close what was idle.
            return self._ask_once(deadline, timeout_seconds)
        return failure

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()
        if self._connection is not None:
            # Whatever goes wrong in redis-py here, the socket itself is closed below.
            with contextlib.suppress(Exception):
                self._connection.disconnect()
        if self._wire is not None:
            self._wire.close()
        self._connection = self._wire = None
        self._pending.clear()
        self._unanswered = 0

    def _ask_once(self, deadline: float, timeout_seconds: float) -> Failure | None:
        try:
            self._exchange(deadline)
        except Exception as error:  # noqa: BLE001  every exception is a failed attempt
            at = Situation(self._settings.where, self.phase, timeout_seconds)
            failure = classify(error, at)
            if not self._may_be_late(failure):
                self.close()
            return failure
        self._unanswered = 0
        self._refuse_extras()
        return None

    def _may_be_late(self, failure: Failure) -> bool:
        """Whether to go on waiting, in the next attempt, for an answer that has not come yet."""
        if failure.error_type != "TimeoutError" or not self._pending or self._interrupted:
            return False
        self._unanswered += 1
        return self._unanswered < _PATIENCE

    def _exchange(self, deadline: float) -> None:
        if self._connection is None or self._wire is None:
            self._connect(deadline)
        else:
            self.phase = Phase.PING
            self._wire.begin(deadline)
            if not self._pending:
                self._send(self._connection, [("PING",)])
        assert self._connection is not None  # noqa: S101  for the type checker
        self.phase = Phase.PING
        while self._pending:
            self._check(self._pending[0], self._reply(self._connection))
            self._pending.popleft()

    def _refuse_extras(self) -> None:
        """Close a connection on which more has come than was asked for.

        Its next PONG could not be told from what is left over, and its socket would be readable
        for ever.
        """
        try:
            extra = self._connection is None or self._connection.can_read(timeout=0)
        except Exception:  # noqa: BLE001  closed by the other side, just after its answer
            extra = True
        if extra:
            self.close()

    # -- connecting -------------------------------------------------------------------------------

    def _connect(self, deadline: float) -> None:
        settings = self._settings
        addresses = self._addresses()
        self.phase = Phase.CONNECT
        # A plain socket first: a refusal is by far the most frequent failure, and costs a fraction
        # of what redis-py needs to find it out.
        sock = connect(addresses, deadline, self._adopt)
        try:
            build = self._uninterruptible(Phase.IMPORT, _import_builder)
            login = self._uninterruptible(Phase.CREDENTIALS, self._credentials)
            connection = _built(build, settings, login)
            self.phase = Phase.TLS
            sock.settimeout(max(deadline - time.monotonic(), 0.001))
            sock = connection.wrap(sock)
        except BaseException:
            sock.close()
            raise
        self._connection, self._wire = connection, Wire(sock, deadline)
        self.phase = Phase.GREETING
        connection.start(self._wire)
        commands: list[tuple[object, ...]] = []
        if login and settings.protocol == 2:  # noqa: PLR2004  in RESP3 the greeting has logged in
            commands.append(("AUTH", *login))
        if settings.db:
            commands.append(("SELECT", settings.db))
        # All in one go: login, database and PING cost one round trip together.
        self._send(connection, [*commands, ("PING",)])

    def _addresses(self) -> list[Address]:
        settings = self._settings
        if settings.path:
            return [(socket.AF_UNIX, settings.path)]
        return literal_address(settings.host, settings.port) or self._uninterruptible(
            Phase.RESOLVE, lambda: look_up(settings.host, settings.port)
        )

    def _credentials(self) -> tuple[str, ...]:
        settings = self._settings
        provider = settings.credential_provider
        if provider is not None:
            try:
                return tuple(provider.get_credentials())
            except NotImplementedError:
                # Written for asyncio only: this thread has no loop of its own, so it may run one.
                return tuple(asyncio.run(provider.get_credentials_async()))
        if settings.username and self._name_user:
            return (settings.username, settings.password)
        return (settings.password,) if settings.password else ()

    def _uninterruptible(self, phase: Phase, step: Callable[[], _T]) -> _T:
        """Do what no deadline can end; when it ends too late, keep it for the next attempt.

        So an attempt that follows a hung one joins what is under way, and never starts it twice.
        """
        self._raise_if_interrupted()
        self.phase = phase
        value: _T = self._kept.pop(phase) if phase in self._kept else step()  # type: ignore[assignment]  # a phase has one step, and its result one type
        with self._lock:
            if self._interrupted:
                self._kept[phase] = value
                raise _Interrupted
        return value

    def _adopt(self, sock: socket.socket) -> None:
        handle = sock.dup()
        with self._lock:
            before, self._handle = self._handle, handle
        if before is not None:
            before.close()
        self._raise_if_interrupted()

    def _raise_if_interrupted(self) -> None:
        if self._interrupted:
            raise _Interrupted

    # -- talking ----------------------------------------------------------------------------------

    def _send(self, connection: "ProbeConnection", commands: Sequence[Sequence[object]]) -> None:
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        self._pending.extend(str(command[0]) for command in commands)

    def _reply(self, connection: "ProbeConnection") -> object:
        try:
            return connection.read_response(disconnect_on_error=False)
        except (ValueError, TypeError, LookupError, RecursionError):
            # What a parser raises that was written for Redis, and is given something else.
            raise NotRedisError from None

    def _check(self, command: str, reply: object) -> None:
        good = (b"PONG", "PONG") if command == "PING" else (b"OK", "OK")
        if reply not in good:
            raise WrongAnswerError


def _built(
    build: "Callable[[RedisSettings, tuple[str, ...]], ProbeConnection]",
    settings: RedisSettings,
    login: tuple[str, ...],
) -> "ProbeConnection":
    try:
        return build(settings, login)
    except Exception:  # noqa: BLE001  nothing is asked of the network here: only options can be wrong
        raise BadOptionsError from None


def _import_builder() -> "Callable[[RedisSettings, tuple[str, ...]], ProbeConnection]":
    from orchestrator.redis._connection import (  # noqa: PLC0415  loads redis, which is slow
        build_connection,
    )

    return build_connection
