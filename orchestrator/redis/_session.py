"""The blocking side of the probe: one connection, and one question with one deadline.

All of it runs in the worker's thread, except where it says otherwise.
"""

import math
import time
from collections import deque

from orchestrator._probing.blocking_probe import held_up
from orchestrator._probing.interruption import Interruption
from orchestrator._probing.socket_failures import CLOSED
from orchestrator._probing.worker import Answer
from orchestrator.redis._connector import Connector
from orchestrator.redis._error_replies import OLD_LOGIN
from orchestrator.redis._expect import RedisCommand, commands_of
from orchestrator.redis._failures import OF_TIME, classify, timed_out, unexpected
from orchestrator.redis._pipelined_connection import PipelinedConnection
from orchestrator.redis._progress import ProbePhase, Situation
from orchestrator.redis._settings import RedisSettings
from states import Failure

_MOST_UNANSWERED = 3
"""So many attempts may wait for one PING in vain, on a connection that has answered before. Then it
is taken for half open: the other side may have forgotten it, and would never answer."""


_LATE_SECONDS = 0.1
"""Every wait ends at the deadline. A thread that finds out so much later was not let run, because
other threads held the interpreter or the machine had no time for it."""


class RedisSession:
    """One connection to one Redis, kept from attempt to attempt.

    Args:
        settings: Where Redis is and how to log in.

    Attributes:
        interruption: How an attempt is ended from outside.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.interruption = Interruption()
        self._connector = Connector(settings, self.interruption)
        self._commands = commands_of(settings.expect)
        self._connect_seconds = settings.connect_seconds or math.inf
        self._connection: PipelinedConnection | None = None
        self._pending: deque[RedisCommand] = deque()
        self._unanswered = 0
        self._patience_seconds = 0.0

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
        """When Redis accepted a new connection on which it has not answered yet; 0 for none."""
        return self._connector.progress.accepted_at

    @property
    def is_endless(self) -> bool:
        """Whether no deadline can end what is under way."""
        return self._connector.progress.is_endless

    def abandon(self) -> None:
        """Close the descriptors and nothing else: the connection is of the process before a fork.

        Neither a shutdown nor TLS' goodbye may reach the server, to which the other still talks.
        """
        self.interruption.abandon()
        if self._connection is not None:
            self._connection.socket.close()

    # -- in the worker's thread -------------------------------------------------------------------

    def ask(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> Answer:
        """PING, over the open connection or a new one.

        Args:
            deadline: When the attempt ends, in monotonic seconds.
            timeout_seconds: How long it may take.
            patience_seconds: How long a new connection that was accepted may take, if longer.
        """
        self._patience_seconds = patience_seconds
        failure = self._ask_again(deadline, timeout_seconds)
        of_time = failure is not None and failure.error_type in OF_TIME
        now = time.monotonic()
        if failure is None or not of_time or now - deadline < _LATE_SECONDS:
            return Answer(failure, of_time)
        asked_at = now if self._connection is None else self._connection.asked_at
        void = now - asked_at < timeout_seconds
        return Answer(held_up(failure, now - deadline), of_time, void)

    def _ask_again(self, deadline: float, timeout_seconds: float) -> Failure | None:
        warm = self._connection is not None
        failure = self._ask_once(deadline, timeout_seconds)
        if failure is None:
            return None
        if failure.error_type == OLD_LOGIN and self._connector.name_user:
            # A server before version 6 knows no user names. redis-py asks again without, too.
            self._connector.name_user = False
            return self._ask_once(deadline, timeout_seconds)
        if failure.error_type == CLOSED and warm and not self.interruption.interrupted:
            # That the old connection has ended says nothing about Redis: many servers and proxies
            # close what was idle.
            return self._ask_once(deadline, timeout_seconds)
        return failure

    def close(self) -> None:
        """Let go of the connection."""
        self.interruption.release()
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._pending.clear()
        self._unanswered = 0

    def _ask_once(self, deadline: float, timeout_seconds: float) -> Failure | None:
        before = self._connection
        try:
            self._exchange(deadline)
        except Exception as error:  # every exception is a failed attempt
            failure = _classified(error, self.situation(timeout_seconds))
            warm = before is not None and self._connection is before
            if not (warm and self._may_be_late(failure)):
                self.close()
            return failure
        finally:
            self._connector.progress.accepted_at = 0.0
        self._unanswered = 0
        self._refuse_extras()
        return None

    def _may_be_late(self, failure: Failure) -> bool:
        """Whether to go on waiting, in the next attempt, for an answer that has not come yet."""
        late = failure.error_type == "TimeoutError" and self._pending
        if not late or self.interruption.interrupted:
            return False
        self._unanswered += 1
        return self._unanswered < _MOST_UNANSWERED

    def _exchange(self, deadline: float) -> None:
        connection = self._connection
        fresh = connection is None
        if connection is None:
            connection, sent = self._connector.connect(
                deadline, self._commands, self._patience_seconds
            )
            self._connection = connection
            self._pending.extend(sent)
        else:
            self._connector.progress.phase = ProbePhase.PING
            connection.socket.begin(deadline)
            if not self._pending:
                self._pending.extend(connection.send([*self._commands]))
        while self._pending:
            connection.receive(self._pending[0])
            self._pending.popleft()
        if not fresh and self._connector.has_moved(deadline):
            self.close()
            self._exchange(deadline)

    def _refuse_extras(self) -> None:
        """Close a connection on which more has come than was asked for.

        Its next PONG could not be told from what is left over, and its socket would be readable
        for ever.
        """
        if self._connection is None or self._connection.has_extra():
            self.close()


def _classified(error: Exception, at: Situation) -> Failure:
    try:
        return classify(error, at)
    except Exception as another:  # what is said of an error must not end the thread
        return unexpected(another, at)
