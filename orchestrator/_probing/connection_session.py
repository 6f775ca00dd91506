"""When a connection is asked again, kept, or given up: the rules for every session on a socket.

All of it runs in the worker's thread.

- A new connection that was accepted may outlast its attempt; see `worker`.
- The connection stays open between attempts, unless its protocol does not allow that. One that has
  answered before may miss two answers; after that it counts as half open: the other side may have
  forgotten it. Any other failure on it may say nothing about the server, since many servers and
  proxies close idle connections; so the same attempt asks again, on a new connection.
- A thread that sees its deadline much too late, or that took much of the time itself, did not get
  to run, and says so; if the server had less than its full time, the attempt is void.
"""

import time
from abc import abstractmethod
from collections.abc import Generator

from orchestrator._probing.blocking_probe import had_its_time, held_up
from orchestrator._probing.in_steps import InSteps, Steps, Wait
from orchestrator._probing.interruption import Interruption
from orchestrator._probing.question import Answer, IfLate
from states import Failure

_MOST_UNANSWERED = 3
_LATE_SECONDS = 0.1
"""Nothing but a wait takes so long, and each wait ends at its deadline: unless the thread or the
event loop does not get to run."""


class ConnectionSession(InSteps):
    """One connection, kept from attempt to attempt.

    Attributes:
        interruption: How an attempt is ended from outside.
        accepted_at: When the server accepted a new connection on which it has not answered yet, in
            monotonic seconds; 0 for none.
        keeps_open: Whether the connection stays open between attempts.
        of_time: The `error_type` of failures that more time might have prevented.
    """

    accepted_at: float = 0.0
    keeps_open = True
    of_time = frozenset({"TimeoutError", "ConnectTimeout"})

    def __init__(self) -> None:
        self.interruption = Interruption()
        self._answers = False
        self._unanswered = 0
        self._held_seconds = 0.0

    # -- what a subclass says ---------------------------------------------------------------------

    @abstractmethod
    def exchange(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> None:
        """Ask, over the open connection or a new one. Raise what goes wrong."""

    @abstractmethod
    def failure_of(self, error: Exception, timeout_seconds: float) -> Failure:
        """Why an attempt failed, from the exception that ended it."""

    @abstractmethod
    def disconnect(self) -> None:
        """Close the connection, if there is one."""

    @abstractmethod
    def has_extra(self) -> bool:
        """Whether more came than was asked for, or the other side has closed."""

    @property
    @abstractmethod
    def waits_since(self) -> float:
        """Since when the other side has owed its next bytes; see `worker.Session`."""

    @property
    @abstractmethod
    def held_seconds(self) -> float:
        """How much of the attempt has passed on its connection; see `worker.Session`."""

    @property
    @abstractmethod
    def asked_at(self) -> float | None:
        """When the last question was sent on the open connection; `None` without one."""

    @property
    @abstractmethod
    def awaits_answer(self) -> bool:
        """Whether a question has been sent as a whole, and not been answered."""

    def asks_again(self, failure: Failure, warm: bool) -> bool:
        """Whether to ask a second time, on a new connection.

        Args:
            failure: Why the first try failed; never because time was up.
            warm: Whether that connection had answered before.
        """
        return warm

    # -- asking -----------------------------------------------------------------------------------

    def ask(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> Answer:
        """Ask over the open connection, or a new one; see `worker.Session`."""
        warm = self._answers
        failure = self._ask_once(deadline, timeout_seconds, patience_seconds)
        if (
            failure is not None
            and failure.error_type not in self.of_time
            and not self.interruption.interrupted
            and self.asks_again(failure, warm)
        ):
            failure = self._ask_once(deadline, timeout_seconds, patience_seconds)
        if_late = self._if_late
        if failure is None:
            return Answer(None, if_late)
        of_time = failure.error_type in self.of_time
        if_late = IfLate.SAYS_NOTHING if of_time else if_late
        now = time.monotonic()
        late_seconds = max(now - deadline, self._held_seconds)
        if not of_time or late_seconds < _LATE_SECONDS:
            return Answer(failure, if_late)
        asked_at = self.asked_at
        void = asked_at is None or not had_its_time(now - asked_at, timeout_seconds)
        return Answer(held_up(failure, late_seconds), if_late, void)

    def steps(self) -> Steps | None:
        """How to ask now without waiting; `None` where only the thread can."""
        return None

    def ask_in_steps(
        self, steps: Steps, timeout_seconds: float
    ) -> Generator[Wait, None, Answer | None]:
        """Ask in these steps; see `InSteps`."""
        warm = self._answers
        try:
            yield from steps
        except Exception as error:  # every exception is a failed attempt
            failure = self._failed(error, timeout_seconds)
            of_time = failure.error_type in self.of_time
            again = not of_time and self.asks_again(failure, warm)
            return None if again else Answer(failure, self._if_late)
        self._succeeded()
        return Answer(None, self._if_late)

    @property
    def _if_late(self) -> IfLate:
        return IfLate.COUNTS if self.keeps_open else IfLate.ANSWERS_WAITING

    def close(self) -> None:
        """Let go of the connection."""
        self.interruption.forget()
        self.disconnect()
        self._answers = False
        self._unanswered = 0

    def _ask_once(
        self, deadline: float, timeout_seconds: float, patience_seconds: float
    ) -> Failure | None:
        try:
            self.exchange(deadline, timeout_seconds, patience_seconds)
        except Exception as error:  # every exception is a failed attempt
            self._held_seconds = self.held_seconds  # before the connection goes
            return self._failed(error, timeout_seconds)
        finally:
            self.accepted_at = 0.0
        self._succeeded()
        return None

    def _failed(self, error: Exception, timeout_seconds: float) -> Failure:
        failure = self.failure_of(error, timeout_seconds)
        if not (self._answers and self._may_be_late(failure)):
            self.close()
        return failure

    def _succeeded(self) -> None:
        self._answers, self._unanswered = True, 0
        if not self.keeps_open or self.has_extra():
            # Leftovers could be taken for the next answer, and the socket would be readable for
            # ever.
            self.close()

    def _may_be_late(self, failure: Failure) -> bool:
        """Whether to go on waiting, in the next attempt, for an answer that has not come yet."""
        late = failure.error_type == "TimeoutError" and self.awaits_answer
        if not late or self.interruption.interrupted:
            return False
        self._unanswered += 1
        return self._unanswered < _MOST_UNANSWERED
