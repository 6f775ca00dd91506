"""The way to a connection: names, sentinels, sockets, TLS and login. All in the worker's thread."""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator._hardening.log_thread import logger
from orchestrator._probing.interruption import InterruptedByUs, Interruption
from orchestrator.redis._deadline_socket import (
    Address,
    NotRedisError,
    Wire,
    connect,
    literal_address,
    look_up,
)
from orchestrator.redis._expect import Step, address_of, greeted, ok
from orchestrator.redis._failures import (
    ApplicationError,
    Phase,
    Situation,
    UnfitError,
    classify,
)
from orchestrator.redis._replies import is_passed_over
from orchestrator.redis._settings import RedisSettings
from states import FailureKind

if TYPE_CHECKING:
    from orchestrator.redis._greeter import ProbeConnection


_MISREAD = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What code raises that was written for the replies of Redis, and is given something else."""


class Line:
    """An open connection, and the login that is still to be sent on it.

    Attributes:
        connection: redis-py's side of it.
        wire: The socket.
        greeting: The commands that go before all others.
        asked_at: When the last of what was asked was on its way, in monotonic seconds.
    """

    def __init__(self, connection: "ProbeConnection", wire: Wire) -> None:
        self.connection = connection
        self.wire = wire
        self.greeting: list[Step] = []
        self.asked_at = time.monotonic()

    def start(self) -> None:
        """Begin to use the socket."""
        self.connection.start(self.wire)
        self.greeting = [
            Step(
                greeting.command,
                greeted if greeting.command[0] == "HELLO" else ok,
                greeting.may_fail,
            )
            for greeting in self.connection.greeting
        ]

    def ask(self, steps: list[Step]) -> list[Step]:
        """Send commands, all in one go; return them for their replies to be awaited."""
        packed = self.connection.pack_commands([step.command for step in steps])
        self.connection.send_packed_command(packed, check_health=False)
        self.asked_at = time.monotonic()
        return steps

    def settle(self, step: Step) -> object:
        """Wait for the reply to `step`, which must be a good one."""
        try:
            reply = self._reply()
        except Exception as error:
            if not (step.may_fail and is_passed_over(error)):
                raise
            return None
        step.verify(reply)
        return reply

    def _reply(self) -> object:
        try:
            return self.connection.read_response(disconnect_on_error=False)
        except _MISREAD:
            raise NotRedisError from None

    def close(self) -> None:
        """Let go of the socket, whatever redis-py does."""
        try:
            self.connection.disconnect()
        except Exception:  # the socket itself is closed below
            logger.debug("redis-py raised while it closed a connection")
        self.wire.close()


class Dialer:
    """Opens connections.

    Args:
        settings: Where Redis is and how to log in.
        interruption: How an attempt is ended from outside.

    Attributes:
        phase: What is being done now.
        where: What it is being done with, in words.
        accepted_at: When Redis accepted a new connection on which it has not answered yet, in
            monotonic seconds; 0 for none. What goes on then outlasts the attempt.
    """

    def __init__(self, settings: RedisSettings, interruption: Interruption) -> None:
        self.phase = Phase.CONNECT
        self.where = settings.where
        self.accepted_at = 0.0
        self.name_user = True
        self._checked: dict[str, dict[str, Any]] = {}
        self._settings = settings
        self._interruption = interruption
        self._sentinels = list(settings.sentinels)
        self._master: tuple[str, int] | None = None

    def dial(
        self, deadline: float, steps: Sequence[Step], patience_seconds: float
    ) -> tuple[Line, list[Step]]:
        """A new connection to Redis; with sentinels, to the master that they name now.

        The greeting and `steps` are sent in one go: together they cost one round trip. Returns both
        for their replies to be awaited. Once the connection is accepted, all this may take until
        the deadline or `patience_seconds`, whichever is later.
        """
        settings = self._settings
        self.where = settings.where
        if settings.sentinels:
            host, port = self._find_master(deadline)
            settings = replace(settings, host=host, port=port, sentinels=())
            self.where = f"{self._settings.where} at {host}:{port}"
        line = self._open(settings, deadline, patience_seconds)
        self.phase = Phase.PING
        return line, line.ask([*line.greeting, *steps])

    # -- one connection ---------------------------------------------------------------------------

    def has_moved(self, deadline: float) -> bool:
        """Whether the sentinels name another master now; not where none of them says any.

        A server that was given up may go on calling itself a master for as long as nobody tells it:
        one that was restarted, for about 10 s; one that is cut off from the sentinels, for ever.
        """
        if not self._settings.sentinels:
            return False
        before, where = self._master, self.where
        now = time.monotonic()
        try:
            with self._interruption.beside():
                return self._find_master(now + (deadline - now) / 2) != before
        except InterruptedByUs:
            raise
        except Exception:  # that they cannot say says nothing about Redis
            return False
        finally:
            self.where, self.phase = where, Phase.PING

    def _open(
        self, settings: RedisSettings, deadline: float, patience_seconds: float | None = None
    ) -> Line:
        """A connection on which nothing was said, unless by the application's own function."""
        addresses = self._addresses(settings)
        self.phase = Phase.CONNECT
        until = deadline
        if settings.connect_seconds is not None:
            until = min(deadline, time.monotonic() + settings.connect_seconds)
        # A plain socket first: a refusal is by far the most frequent failure, and costs a fraction
        # of what redis-py needs to find it out.
        sock = connect(addresses, until, self._interruption.adopt)
        # What a slow provider gives is kept for the next attempt, so this need not outlast its own.
        provided = settings.options.get("credential_provider") is not None
        accepted_at = time.monotonic()
        self.accepted_at = 0.0 if patience_seconds is None or provided else accepted_at
        try:
            self.phase = Phase.IMPORT
            build = self._interruption.uninterruptible(Phase.IMPORT, _import_builder)
            if provided:
                self.phase = Phase.CREDENTIALS
            login = self._interruption.uninterruptible(
                Phase.CREDENTIALS, lambda: _credentials(settings)
            )
            connection = build(settings, login, name_user=self.name_user, checked=self._checked)
            until = deadline
            if patience_seconds is not None:
                until = max(deadline, time.monotonic() + patience_seconds)
                self.accepted_at = accepted_at
            if settings.tls:
                self.phase = Phase.TLS
            sock.settimeout(max(until - time.monotonic(), 0.001))
            sock = connection.wrap(sock)
        except BaseException:
            sock.close()
            raise
        line = Line(connection, Wire(sock, deadline, settings.answer_seconds, until))
        try:
            if settings.options.get("redis_connect_func") is not None:
                self.phase = Phase.GREETING
            line.start()
        except BaseException:
            line.close()
            raise
        return line

    def _addresses(self, settings: RedisSettings) -> list[Address]:
        if settings.path:
            return [(socket.AF_UNIX, settings.path)]
        host, port = settings.host, settings.port
        if found := literal_address(host, port):
            return found
        self.phase = Phase.RESOLVE
        return self._interruption.uninterruptible(
            (Phase.RESOLVE, host, port), lambda: look_up(host, port)
        )

    # -- sentinels --------------------------------------------------------------------------------

    def _find_master(self, deadline: float) -> tuple[str, int]:
        """Ask one sentinel after the other; one that hangs must not hide the next."""
        permanent: tuple[Exception, str, Phase] | None = None
        unknown = False
        for position, sentinel in enumerate(tuple(self._sentinels)):
            # Each gets an equal share of the time that is left, and so does the master after them.
            left = deadline - time.monotonic()
            until = time.monotonic() + left / (len(self._sentinels) - position + 1)
            try:
                found = self._ask_sentinel(sentinel, until)
            except InterruptedByUs:
                raise
            except Exception as error:  # the next sentinel may do better
                at = Situation(self.where, self.phase, left)
                if classify(error, at).kind is FailureKind.PERMANENT:
                    permanent = (error, self.where, self.phase)
            else:
                if found is not None:
                    self._sentinels.remove(sentinel)
                    self._sentinels.insert(0, sentinel)
                    self._note_master(found)
                    return found
                unknown = True
        if permanent is not None:
            refusal, self.where, self.phase = permanent
            raise refusal
        self.where, self.phase = self._settings.where, Phase.SENTINEL
        if unknown:
            raise UnfitError(
                FailureKind.PERMANENT,
                "UnknownMaster",
                "is not known to its sentinels: check the service name",
            )
        said = f"cannot be found: none of its {len(self._sentinels)} sentinels answered"
        raise UnfitError(FailureKind.TRANSIENT, "SentinelsUnreachable", said)

    def _ask_sentinel(self, sentinel: tuple[str, int], until: float) -> tuple[str, int] | None:
        base = self._settings.sentinel or RedisSettings()
        settings = replace(base, host=sentinel[0], port=sentinel[1], db=0)
        self.where = settings.where.replace("redis at", "sentinel at")
        line = self._open(settings, until)
        try:
            self.phase = Phase.SENTINEL
            name = self._settings.service_name
            question = Step(("SENTINEL", "get-master-addr-by-name", name), lambda _: None)
            reply: object = None
            for step in line.ask([*line.greeting, question]):
                reply = line.settle(step)
        finally:
            line.close()
        return address_of(reply)

    def _note_master(self, found: tuple[str, int]) -> None:
        if self._master is not None and self._master != found:
            logger.info(
                "%s is now at %s:%d; it was at %s:%d", self._settings.where, *found, *self._master
            )
        self._master = found


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
    from orchestrator.redis._greeter import (  # loads redis, which is slow
        build_connection,
    )

    return build_connection
