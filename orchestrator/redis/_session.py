"""The blocking side of the probe: one connection, and one question with one deadline.

All of it runs in the worker's thread, except where it says otherwise.
"""

import math
from collections import deque

from orchestrator._probing.connection_session import ConnectionSession
from orchestrator._probing.in_steps import Steps, Wait
from orchestrator._probing.socket_failures import CLOSED
from orchestrator.redis._connector import Connector
from orchestrator.redis._error_replies import OLD_LOGIN
from orchestrator.redis._expect import RedisCommand, commands_of
from orchestrator.redis._failures import OF_TIME, classify, timed_out, unexpected
from orchestrator.redis._pipelined_connection import PipelinedConnection
from orchestrator.redis._progress import ProbePhase, Situation
from orchestrator.redis._settings import RedisSettings
from states import Failure


class RedisSession(ConnectionSession):
    """One connection to one Redis, kept from attempt to attempt.

    Args:
        settings: Where Redis is and how to log in.
    """

    of_time = OF_TIME

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__()
        self._connector = Connector(settings, self.interruption, plain=True)
        self._commands = commands_of(settings.expect)
        self._connect_seconds = settings.connect_seconds or math.inf
        self._connection: PipelinedConnection | None = None
        self._pending: deque[RedisCommand] = deque()

    # -- from other threads -----------------------------------------------------------------------

    def situation(self, timeout_seconds: float) -> Situation:
        """How far an attempt of `timeout_seconds` has come."""
        try:
            command = self._pending[0].name
        except IndexError:  # not sent yet, or just answered: the worker goes on meanwhile
            command = "PING"
        progress = self._connector.progress
        if progress.phase is ProbePhase.CONNECT:
            timeout_seconds = min(timeout_seconds, self._connect_seconds)
        return progress.situation(timeout_seconds, command)

    def timed_out(self, timeout_seconds: float) -> Failure:
        """What is missing of an attempt of `timeout_seconds`."""
        return timed_out(self.situation(timeout_seconds))

    @property
    def accepted_at(self) -> float:
        """Since when Redis has had the turn on a new connection that has not answered yet.

        That is when it was accepted, or when it was asked; 0 for no such connection.
        """
        at = self._connector.progress.accepted_at
        return max(at, self.asked_at or 0.0) if at else 0.0

    @accepted_at.setter
    def accepted_at(self, at: float) -> None:
        self._connector.progress.accepted_at = at

    @property
    def is_endless(self) -> bool:
        """Whether no deadline can end what is under way."""
        return self._connector.progress.is_endless

    @property
    def waits_since(self) -> float:
        """Since when Redis has owed its next bytes; see `worker.Session`."""
        if self.is_endless:
            return math.inf
        sock = self._connector.socket
        return 0.0 if sock is None else sock.waits_since

    @property
    def held_seconds(self) -> float:
        """How much of the attempt has passed here; see `worker.Session`."""
        sock = self._connector.socket
        return 0.0 if sock is None else sock.held_seconds

    def abandon(self) -> None:
        """Close the descriptors and nothing else: the connection is of the process before a fork.

        Neither a shutdown nor TLS' goodbye may reach the server, to which the other still talks.
        """
        self.interruption.abandon()
        if self._connection is not None:
            self._connection.socket.close()

    # -- in the worker's thread -------------------------------------------------------------------

    def exchange(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> None:
        """PING, over the open connection or a new one."""
        connection = self._connection
        fresh = connection is None
        if connection is None:
            connection, sent = self._connector.connect(deadline, self._commands, patience_seconds)
            self._connection = connection
            self._pending.extend(sent)
        else:
            self._connector.progress.phase = ProbePhase.PING
            connection.socket.begin(deadline, deadline - timeout_seconds)
            if not self._pending:
                self._pending.extend(connection.send([*self._commands]))
        while self._pending:
            connection.await_reply(self._pending[0])
            self._pending.popleft()
        if not fresh and self._connector.has_moved(deadline):
            self.close()
            self.exchange(deadline, timeout_seconds, patience_seconds)

    def steps(self) -> Steps | None:
        """PING over an open connection, unless sentinels are to be asked, too."""
        connection = self._connection
        if connection is None or not self._answers or self._connector.asks_sentinels:
            return None
        return self._in_steps(connection)

    def _in_steps(self, connection: PipelinedConnection) -> Steps:
        self._connector.progress.phase = ProbePhase.PING
        connection.socket.begin(0.0)  # long over, so nothing waits
        if not self._pending:
            self._pending.extend(connection.send([*self._commands]))
        while self._pending:
            yield Wait(connection.socket.socket)
            try:
                while self._pending:
                    connection.await_reply(self._pending[0])
                    self._pending.popleft()
            except Exception as error:
                if self.failure_of(error, 0.0).error_type not in self.of_time:
                    raise

    def failure_of(self, error: Exception, timeout_seconds: float) -> Failure:
        """Why an attempt failed, from the exception that ended it."""
        return _classified(error, self.situation(timeout_seconds))

    def asks_again(self, failure: Failure, warm: bool) -> bool:
        """Whether to ask again: where the old connection was closed, or for an old server."""
        if failure.error_type == OLD_LOGIN and self._connector.name_user:
            # A server before version 6 knows no user names. redis-py asks again without, too.
            self._connector.name_user = False
            return True
        return warm and failure.error_type == CLOSED

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._pending.clear()

    def has_extra(self) -> bool:
        """Whether more came than was asked for, or Redis has closed."""
        return self._connection is None or self._connection.has_extra()

    @property
    def asked_at(self) -> float | None:
        """When the last of what was asked was on its way."""
        return None if self._connection is None else self._connection.asked_at

    @property
    def awaits_answer(self) -> bool:
        """Whether a reply is missing."""
        return bool(self._pending)


def _classified(error: Exception, at: Situation) -> Failure:
    try:
        return classify(error, at)
    except Exception as another:  # what is said of an error must not end the thread
        return unexpected(another, at)
