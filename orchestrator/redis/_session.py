"""The blocking side of the probe: one connection, and one question with one deadline.

All of it runs in the worker's thread, except `interrupt`, `watch` and `abandon`.
"""

import math
import selectors
import socket
import time
from collections import deque

from orchestrator._probing.interruption import Interruption
from orchestrator.redis._connector import Dialer, Line
from orchestrator.redis._expect import Step, steps_of
from orchestrator.redis._failures import (
    CLOSED,
    ENDLESS,
    OF_TIME,
    Phase,
    Situation,
    classify,
    held_up,
    unexpected,
)
from orchestrator.redis._replies import OLD_LOGIN
from orchestrator.redis._settings import RedisSettings
from states import Failure

_MOST_UNANSWERED = 3
"""So many attempts may wait for one PING in vain, on a connection that has answered before. Then it
is taken for half open: the other side may have forgotten it, and would never answer."""


_LATE_SECONDS = 0.1
"""Every wait ends at the deadline. A thread that finds out so much later was not let run, because
other threads held the interpreter or the machine had no time for it."""


class Session:
    """One connection to one Redis, kept from attempt to attempt.

    Args:
        settings: Where Redis is and how to log in.

    Attributes:
        held_up: Whether the last question failed for want of time in which this thread did not run,
            so that the server had less than its time to answer.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._interruption = Interruption()
        self._dialer = Dialer(settings, self._interruption)
        self._steps = steps_of(settings.expect)
        self._connect_seconds = settings.connect_seconds or math.inf
        self._line: Line | None = None
        self._pending: deque[Step] = deque()
        self._unanswered = 0
        self.held_up = False
        self._patience_seconds = 0.0

    # -- from other threads -----------------------------------------------------------------------

    def interrupt(self) -> None:
        """Make the question under way end as soon as the operating system allows."""
        self._interruption.interrupt()

    def watch(self) -> socket.socket | None:
        """A handle on the connection's socket that the caller owns; `None` without a connection."""
        return self._interruption.watch()

    def situation(self, timeout_seconds: float) -> Situation:
        """How far an attempt of `timeout_seconds` has come."""
        try:
            command = self._pending[0].name
        except IndexError:  # not sent yet, or just answered: the worker goes on meanwhile
            command = "PING"
        dialer, phase = self._dialer, self._dialer.phase
        if phase is Phase.CONNECT:
            timeout_seconds = min(timeout_seconds, self._connect_seconds)
        return Situation(dialer.where, phase, timeout_seconds, command, self.outlasts)

    @property
    def outlasts(self) -> bool:
        """Whether what is under way goes on after its attempt: Redis has accepted a connection."""
        return self._dialer.accepted_at > 0

    @property
    def is_endless(self) -> bool:
        """Whether no deadline can end what is under way."""
        return self._dialer.phase in ENDLESS

    def ran_out_of_time(self, failure: Failure) -> bool:
        """Whether this failure says no more than that Redis has not answered in time."""
        return failure.error_type in OF_TIME

    def had_its_time(self, timeout_seconds: float) -> bool:
        """Whether Redis has been silent for so long on a connection that it has accepted."""
        accepted_at, handle = self._dialer.accepted_at, self.watch()
        if handle is None:
            return False
        with handle, selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            is_silent = not selector.select(0)
        return is_silent and 0 < accepted_at < time.monotonic() - timeout_seconds

    def abandon(self) -> None:
        """Close the descriptors and nothing else: the connection is of the process before a fork.

        Neither a shutdown nor TLS' goodbye may reach the server, to which the other still talks.
        """
        self._interruption.abandon()
        if self._line is not None:
            self._line.wire.close()

    # -- in the worker's thread -------------------------------------------------------------------

    @property
    def interrupted(self) -> bool:
        """Whether the question under way was interrupted."""
        return self._interruption.interrupted

    def rearm(self) -> None:
        """Forget the interruption of the question before."""
        self._interruption.rearm()

    def ask(
        self, deadline: float, timeout_seconds: float, patience_seconds: float
    ) -> Failure | None:
        """PING, over the open connection or a new one; why it failed, or `None`.

        Args:
            deadline: When the attempt ends, in monotonic seconds.
            timeout_seconds: How long it may take.
            patience_seconds: How long a new connection that was accepted may take, be it longer.
        """
        self._patience_seconds = patience_seconds
        failure = self._ask_again(deadline, timeout_seconds)
        now = time.monotonic()
        late_seconds = now - deadline
        self.held_up = False
        if failure is None or failure.error_type not in OF_TIME or late_seconds < _LATE_SECONDS:
            return failure
        asked_at = now if self._line is None else self._line.asked_at
        self.held_up = now - asked_at < timeout_seconds
        return held_up(failure, late_seconds)

    def _ask_again(self, deadline: float, timeout_seconds: float) -> Failure | None:
        warm = self._line is not None
        failure = self._ask_once(deadline, timeout_seconds)
        if failure is None:
            return None
        if failure.error_type == OLD_LOGIN and self._dialer.name_user:
            # A server before version 6 knows no user names. redis-py asks again without, too.
            self._dialer.name_user = False
            return self._ask_once(deadline, timeout_seconds)
        if failure.error_type == CLOSED and warm and not self._interruption.interrupted:
            # That the old connection has ended says nothing about Redis: many servers and proxies
            # close what was idle.
            return self._ask_once(deadline, timeout_seconds)
        return failure

    def close(self) -> None:
        """Let go of the connection."""
        self._interruption.release()
        if self._line is not None:
            self._line.close()
        self._line = None
        self._pending.clear()
        self._unanswered = 0

    def _ask_once(self, deadline: float, timeout_seconds: float) -> Failure | None:
        before = self._line
        try:
            self._exchange(deadline)
        except Exception as error:  # every exception is a failed attempt
            failure = _classified(error, self.situation(timeout_seconds))
            warm = before is not None and self._line is before
            if not (warm and self._may_be_late(failure)):
                self.close()
            return failure
        finally:
            self._dialer.accepted_at = 0.0
        self._unanswered = 0
        self._refuse_extras()
        return None

    def _may_be_late(self, failure: Failure) -> bool:
        """Whether to go on waiting, in the next attempt, for an answer that has not come yet."""
        late = failure.error_type == "TimeoutError" and self._pending
        if not late or self._interruption.interrupted:
            return False
        self._unanswered += 1
        return self._unanswered < _MOST_UNANSWERED

    def _exchange(self, deadline: float) -> None:
        line = self._line
        fresh = line is None
        if line is None:
            line, asked = self._dialer.dial(deadline, self._steps, self._patience_seconds)
            self._line = line
            self._pending.extend(asked)
        else:
            self._dialer.phase = Phase.PING
            line.wire.begin(deadline)
            if not self._pending:
                self._pending.extend(line.ask([*self._steps]))
        while self._pending:
            line.settle(self._pending[0])
            self._pending.popleft()
        if not fresh and self._dialer.has_moved(deadline):
            self.close()
            self._exchange(deadline)

    def _refuse_extras(self) -> None:
        """Close a connection on which more has come than was asked for.

        Its next PONG could not be told from what is left over, and its socket would be readable
        for ever.
        """
        try:
            extra = self._line is None or self._line.connection.can_read(timeout=0)
        except Exception:  # closed by the other side, just after its answer
            extra = True
        if extra:
            self.close()


def _classified(error: Exception, at: Situation) -> Failure:
    try:
        return classify(error, at)
    except Exception as another:  # what is said of an error must not end the thread
        return unexpected(another, at)
