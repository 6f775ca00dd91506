"""The blocking side of a probe that speaks a server's protocol itself, in the worker's thread.

For a new protocol, write a subclass: where to connect (`places`), how to log in (`log_in`), what to
ask (`ask_on`), and what the answer must be (`hear_from`). It raises a `ProtocolFault` for what is
wrong. All else is here, and a `BlockingProbe` around it makes it a probe.

The thread (`worker.py`) calls `ask`, which `connection_session.py` has: it says when the connection
is asked again, kept, or given up, and calls `exchange`. Each place gets an equal share of the
attempt's time, so that a dead one cannot hide the next. A connection that the last place has
accepted may outlast the attempt, for as long as the policy's `answer_patience_seconds`: giving it
up would make a busy server do its work again.
"""

import math
import socket
import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Generic, TypeVar

from orchestrator._probing.addresses import Address, Place, connect, literal_address, look_up
from orchestrator._probing.connection_session import ConnectionSession
from orchestrator._probing.deadline_socket import TooMuchError
from orchestrator._probing.deadline_stream import DeadlineStream
from orchestrator._probing.in_steps import Steps, Wait
from orchestrator._probing.interruption import InterruptedByUs
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator._probing.socket_failures import failure_of_socket
from states import Failure, FailureKind


class StreamPhase(StrEnum):
    """What an attempt is doing."""

    RESOLVE = "looking up the name"
    CONNECT = "connecting"
    SETTINGS = "getting the settings"
    TLS = "TLS handshake"
    LOGIN = "login"
    ASK = "asking"


_OF_OTHERS = {StreamPhase.RESOLVE, StreamPhase.SETTINGS}
"""What is done by a resolver or the application, and no deadline can end."""

_ENDLESS = {*_OF_OTHERS, StreamPhase.TLS}
"""What no deadline can end, or not at once, such as TLS, which reads its files first."""


_PlaceT = TypeVar("_PlaceT", bound=Place)


class StreamSession(ConnectionSession, Generic[_PlaceT]):
    """One connection to a server. Subclass it and write the four abstract methods.

    Args:
        place: Where the first attempt will ask; named in failures before that.

    Attributes:
        phase: What is being done now.
        plain: How to ask without TLS, for a person.
        goodbye: Sent before the connection is closed, if that takes no waiting.
    """

    plain = "ask without TLS"
    goodbye = b""

    def __init__(self, place: _PlaceT) -> None:
        super().__init__()
        self.phase = StreamPhase.CONNECT
        self._place = place
        self._stream: DeadlineStream | None = None
        self._is_waiting = False

    # -- what a subclass says ---------------------------------------------------------------------

    @abstractmethod
    def places(self) -> Sequence[_PlaceT]:
        """Where to try, in order; at least one."""

    @abstractmethod
    def log_in(self, stream: DeadlineStream, place: _PlaceT) -> None:
        """Do everything that comes before the first question. Raise what goes wrong."""

    @abstractmethod
    def ask_on(self, stream: DeadlineStream) -> None:
        """Send the question."""

    @abstractmethod
    def hear_from(self, stream: DeadlineStream) -> None:
        """Read the answer. Raise what is wrong with it.

        Called again, from the beginning of the answer, if not all of it was there.
        """

    def open_at(self, place: _PlaceT, until: float, patience_seconds: float) -> None:
        """Connect to a place and log in there."""
        stream = self.connect_to(place, until, patience_seconds)
        self.phase = StreamPhase.LOGIN
        self.log_in(stream, place)

    # -- from other threads -----------------------------------------------------------------------

    @property
    def is_endless(self) -> bool:
        """Whether no deadline can end what is under way."""
        return self.phase in _ENDLESS

    @property
    def waits_since(self) -> float:
        """Since when the server has owed its next bytes; see `worker.Session`."""
        if self.phase in _OF_OTHERS:
            return math.inf
        return 0.0 if self._stream is None else self._stream.waits_since

    @property
    def held_seconds(self) -> float:
        """How much of the attempt has passed here; see `worker.Session`."""
        return 0.0 if self._stream is None else self._stream.held_seconds

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
        # A server that accepts and does not answer is usually busy with earlier clients.
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

    def exchange(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> None:
        """Ask over the open connection, or log in anew."""
        if self._answers and self._stream is not None:
            self._exchange(self._stream, deadline, deadline - timeout_seconds)
        else:
            self._begin(deadline, patience_seconds)

    def steps(self) -> Steps | None:
        """Ask over an open connection; to log in anew may take its time."""
        if not self._answers or self._stream is None:
            return None
        return self._in_steps(self._stream)

    def _in_steps(self, stream: DeadlineStream) -> Steps:
        self.phase = StreamPhase.ASK
        stream.begin(0.0)  # long over, so nothing waits
        if not self._is_waiting:
            try:
                self.ask_on(stream)
            except TimeoutError:  # there is no room for it: what was sent before has not arrived
                raise ConnectionResetError from None
            self._is_waiting = True
        while self._is_waiting:
            yield Wait(stream.socket)
            try:
                self.hear_from(stream)
                self._is_waiting = False
            except TimeoutError:  # not all of it is there
                stream.rewind()

    def disconnect(self) -> None:
        """Close the connection, if there is one."""
        stream, self._stream = self._stream, None
        self._is_waiting = False
        if stream is not None:
            if self._answers and self.goodbye:
                stream.say_goodbye(self.goodbye)
            stream.close()

    def has_extra(self) -> bool:
        """Whether more came than was asked for."""
        return self._stream is None or self._stream.has_extra()

    @property
    def asked_at(self) -> float | None:
        """When the last question was sent."""
        return None if self._stream is None else self._stream.asked_at

    @property
    def awaits_answer(self) -> bool:
        """Whether it was sent as a whole, and not answered."""
        return self._is_waiting

    def _exchange(self, stream: DeadlineStream, until: float, began_at: float) -> None:
        self.phase = StreamPhase.ASK
        stream.begin(until, began_at)
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
                self.open_at(place, until, patience_seconds if is_last else 0.0)
                if self._stream is not None:
                    self.phase = StreamPhase.ASK
                    self.ask_on(self._stream)
                    self.hear_from(self._stream)
            except (OSError, ProtocolFault, TooMuchError):
                self.close()
                if is_last or self.interruption.interrupted:
                    raise
            else:
                return

    def connect_to(
        self, place: _PlaceT, until: float, patience_seconds: float = 0.0
    ) -> DeadlineStream:
        """A connection that the server has accepted, and that may take for `patience_seconds`."""
        addresses = self.addresses_of(place)
        self.phase = StreamPhase.CONNECT
        sock = connect(addresses, until, self.interruption.adopt)
        if patience_seconds:
            self.accepted_at = time.monotonic()
            until = max(until, self.accepted_at + patience_seconds)
        return self.use(sock, until)

    def use(self, sock: socket.socket, until: float) -> DeadlineStream:
        """Ask on this connection, which was accepted, from now on."""
        self._stream = DeadlineStream(sock, until)
        return self._stream

    def addresses_of(self, place: _PlaceT) -> list[Address]:
        """The addresses of a place; a name is looked up."""
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
