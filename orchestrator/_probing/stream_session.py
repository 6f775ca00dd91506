"""The blocking side of a probe that speaks a server's protocol itself, in the worker's thread.

A subclass says where to connect, how to log in, what to ask and what the answer must be. Here is
what is the same for all of them:

- Each place gets an equal share of the attempt, so that a dead one cannot hide the next.
- What the last place has accepted may outlast the attempt, for as long as the policy's
  `answer_patience_seconds`: to give it up would make a busy server do its work again.
- The connection stays open between attempts. One that has answered before may miss an answer twice;
  then it is taken for half open. Whatever else goes wrong on it says nothing about the server, so
  the same attempt asks again, on a new connection.
"""

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Generic, TypeVar

from orchestrator._probing.addresses import Address, Place, connect, literal_address, look_up
from orchestrator._probing.blocking_probe import held_up
from orchestrator._probing.deadline_stream import DeadlineStream, TooMuchError
from orchestrator._probing.interruption import InterruptedByUs, Interruption
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator._probing.socket_failures import failure_of_socket
from orchestrator._probing.worker import Answer
from states import Failure, FailureKind

_MOST_UNANSWERED = 3
_LATE_SECONDS = 0.1
"""Every wait ends at its deadline. A thread that finds out so much later was not let run."""

_OF_TIME = frozenset({"TimeoutError", "ConnectTimeout"})


class StreamPhase(StrEnum):
    """What an attempt is doing."""

    RESOLVE = "looking up the name"
    CONNECT = "connecting"
    SETTINGS = "getting the settings"
    TLS = "TLS handshake"
    LOGIN = "login"
    ASK = "asking"


_ENDLESS = {StreamPhase.RESOLVE, StreamPhase.SETTINGS, StreamPhase.TLS}
"""What no deadline can end; or not to the moment, as TLS, which reads its files first."""


_PlaceT = TypeVar("_PlaceT", bound=Place)


class StreamSession(ABC, Generic[_PlaceT]):
    """One connection to a server. Subclass it and write the four abstract methods.

    Args:
        place: Where the first attempt will ask, for what is said before.

    Attributes:
        interruption: How an attempt is ended from outside.
        accepted_at: When the server accepted a new connection on which it has not answered yet, in
            monotonic seconds; 0 for none.
        phase: What is being done now.
        plain: How to ask without TLS, for a person.
        goodbye: What is sent, if that needs no waiting, before the connection is closed.
    """

    plain = "ask without TLS"
    goodbye = b""

    def __init__(self, place: _PlaceT) -> None:
        self.interruption = Interruption()
        self.accepted_at = 0.0
        self.phase = StreamPhase.CONNECT
        self._place = place
        self._stream: DeadlineStream | None = None
        self._answers = False
        self._is_waiting = False
        self._unanswered = 0

    # -- what a subclass says ---------------------------------------------------------------------

    @abstractmethod
    def places(self) -> Sequence[_PlaceT]:
        """Where to try, in order; at least one."""

    @abstractmethod
    def log_in(self, stream: DeadlineStream, place: _PlaceT) -> None:
        """Do all that comes before the first question. What is wrong is raised."""

    @abstractmethod
    def ask_on(self, stream: DeadlineStream) -> None:
        """Send the question."""

    @abstractmethod
    def hear_from(self, stream: DeadlineStream) -> None:
        """Read the answer. What is wrong is raised."""

    def enter(self, place: _PlaceT, until: float, patience_seconds: float) -> None:
        """Connect to a place and log in there."""
        stream = self.connect_to(place, until, patience_seconds)
        self.phase = StreamPhase.LOGIN
        self.log_in(stream, place)

    # -- from other threads -----------------------------------------------------------------------

    @property
    def is_endless(self) -> bool:
        """Whether no deadline can end what is under way."""
        return self.phase in _ENDLESS

    def timed_out(self, timeout_seconds: float) -> Failure:
        """What is missing of an attempt of `timeout_seconds`."""
        phase, where, limit = self.phase, self._place.where, f"within {timeout_seconds:.3g} s"
        reasons = {
            StreamPhase.RESOLVE: f"{where}: the name was not resolved {limit};"
            " check the DNS resolver",
            StreamPhase.CONNECT: f"{where} did not accept a connection {limit}:"
            " check the address, the firewall and how busy the server is",
            StreamPhase.SETTINGS: f"the settings for {where} did not come {limit}:"
            " a function of the application gives them",
            StreamPhase.TLS: f"{where} did not finish the TLS handshake {limit}: is TLS on there?",
            StreamPhase.LOGIN: f"{where} did not finish the login {limit},"
            " on an accepted connection",
            StreamPhase.ASK: f"{where} gave no answer {limit}, on an accepted connection",
        }
        # Whoever accepts and does not answer is busy with those who came before, most of the time.
        busy = phase in {StreamPhase.TLS, StreamPhase.LOGIN, StreamPhase.ASK} and not self._answers
        congestion = phase is StreamPhase.CONNECT or busy
        kind = "ConnectTimeout" if phase is StreamPhase.CONNECT else "TimeoutError"
        return Failure(FailureKind.TRANSIENT, kind, reasons[phase], congestion)

    def abandon(self) -> None:
        """Close the descriptors and nothing else: the connection is the parent's."""
        self.interruption.abandon()
        if self._stream is not None:
            self._stream.close()

    # -- in the worker's thread -------------------------------------------------------------------

    def ask(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> Answer:
        """Ask over the open connection, or a new one; see `worker.Session`."""
        warm = self._answers
        failure = self._ask_once(deadline, timeout_seconds, patience_seconds)
        of_time = failure is not None and failure.error_type in _OF_TIME
        if failure is not None and not of_time and warm and not self.interruption.interrupted:
            failure = self._ask_once(deadline, timeout_seconds, patience_seconds)
            of_time = failure is not None and failure.error_type in _OF_TIME
        now = time.monotonic()
        if failure is None or not of_time or now - deadline < _LATE_SECONDS:
            return Answer(failure, of_time)
        asked_at = now if self._stream is None else self._stream.asked_at
        void = now - asked_at < timeout_seconds
        return Answer(held_up(failure, now - deadline), of_time, void)

    def close(self) -> None:
        """Let go of the connection."""
        self.interruption.release()
        stream, self._stream = self._stream, None
        if stream is not None:
            if self._answers:
                stream.say_goodbye(self.goodbye)
            stream.close()
        self._answers = self._is_waiting = False
        self._unanswered = 0

    def _ask_once(
        self, deadline: float, timeout_seconds: float, patience_seconds: float
    ) -> Failure | None:
        try:
            if self._answers and self._stream is not None:
                self._exchange(self._stream, deadline)
            else:
                self._begin(deadline, patience_seconds)
        except Exception as error:  # every exception is a failed attempt
            failure = self.failure_of(error, timeout_seconds)
            if not (self._answers and self._may_be_late(failure)):
                self.close()
            return failure
        finally:
            self.accepted_at = 0.0
        self._unanswered = 0
        if self._stream is None or self._stream.has_extra():
            # The next answer could not be told from what is left over, and the socket would be
            # readable for ever.
            self.close()
        return None

    def _may_be_late(self, failure: Failure) -> bool:
        if failure.error_type != "TimeoutError" or self.interruption.interrupted:
            return False
        self._unanswered += 1
        return self._unanswered < _MOST_UNANSWERED

    def _exchange(self, stream: DeadlineStream, until: float) -> None:
        self.phase = StreamPhase.ASK
        stream.begin(until)
        if self._is_waiting:
            stream.rewind()
        else:
            self.ask_on(stream)
            self._is_waiting = True
        self.hear_from(stream)
        self._is_waiting = False

    def _begin(self, deadline: float, patience_seconds: float) -> None:
        """Make a connection to the first place that answers; raise what the last one gave."""
        self.phase = StreamPhase.CONNECT
        places = self.places()
        for position, place in enumerate(places):
            self._place = place
            now = time.monotonic()
            is_last = position == len(places) - 1
            until = deadline if is_last else now + (deadline - now) / (len(places) - position)
            try:
                self.enter(place, until, patience_seconds if is_last else 0.0)
                if self._stream is not None:
                    self.phase = StreamPhase.ASK
                    self.ask_on(self._stream)
                    self.hear_from(self._stream)
            except (OSError, ProtocolFault, TooMuchError):
                self.close()
                if is_last or self.interruption.interrupted:
                    raise
            else:
                self._answers = True
                return

    def connect_to(
        self, place: _PlaceT, until: float, patience_seconds: float = 0.0
    ) -> DeadlineStream:
        """A connection that the server has accepted, and that may take for `patience_seconds`."""
        addresses = self._addresses(place)
        self.phase = StreamPhase.CONNECT
        sock = connect(addresses, until, self.interruption.adopt)
        if patience_seconds:
            self.accepted_at = time.monotonic()
            until = max(until, self.accepted_at + patience_seconds)
        self._stream = DeadlineStream(sock, until)
        return self._stream

    def _addresses(self, place: _PlaceT) -> list[Address]:
        if place.path:
            return [(socket.AF_UNIX, place.path)]
        host = place.address or place.host
        if found := literal_address(host, place.port):
            return found
        self.phase = StreamPhase.RESOLVE
        return self.interruption.uninterruptible(
            (StreamPhase.RESOLVE, host, place.port), lambda: look_up(host, place.port)
        )

    def failure_of(self, error: Exception, timeout_seconds: float) -> Failure:
        """Why an attempt failed, from the exception that ended it."""
        where = self._place.where
        match error:
            case ProtocolFault():
                failure = error.failure
                return replace(failure, reason=failure.reason.replace("{where}", where))
            case TooMuchError():
                reason = f"{where} answers at a length that no answer has"
                return Failure(FailureKind.PERMANENT, "InvalidResponse", reason)
            case TimeoutError() | InterruptedByUs():
                return self.timed_out(timeout_seconds)
            case OSError():
                connecting = self.phase is StreamPhase.CONNECT
                return failure_of_socket(
                    error, where, doing=self.phase, connecting=connecting, plain=self.plain
                )
            case _:
                name = type(error).__name__
                reason = f"asking {where} failed unexpectedly with {name}"
                return Failure(FailureKind.TRANSIENT, name, reason)
