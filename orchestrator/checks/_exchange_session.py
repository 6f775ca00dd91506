"""A session whose protocol takes a new connection for each attempt: one exchange, then it closes.

The probes here speak their protocols themselves. Client libraries would run their own threads, keep
their own time, or write to standard error.
"""

import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from orchestrator._hardening.arguments import wrong_type
from orchestrator._ports import Probe
from orchestrator._probing.addresses import Place, literal_address
from orchestrator._probing.blocking_probe import BlockingProbe
from orchestrator._probing.deadline_stream import DeadlineStream
from orchestrator._probing.in_steps import Steps, Wait
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator._probing.stream_session import StreamPhase, StreamSession

TlsChoice = ssl.SSLContext | bool
"""How to check the server's certificate; `True` as the system does, `False` for no TLS."""

_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY)
_CONNECTED = (0, errno.EISCONN)

_contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
_making = threading.Lock()


def shared_context(*protocols: str) -> ssl.SSLContext:
    """The system's TLS settings, read once: each copy takes milliseconds and a megabyte.

    Args:
        protocols: What is spoken over TLS, by its ALPN names.
    """
    with _making:
        if protocols not in _contexts:
            context = ssl.create_default_context()
            if protocols:
                context.set_alpn_protocols(list(protocols))
            _contexts[protocols] = context
        return _contexts[protocols]


def require_tls(tls: TlsChoice) -> TlsChoice:
    """The choice of TLS.

    Raises:
        TypeError: When it is none.
    """
    given: object = tls
    if not isinstance(given, bool | ssl.SSLContext):
        raise wrong_type(given, "tls", "a bool or an ssl.SSLContext", "write tls=True")
    return tls


class ExchangeSession(StreamSession[Place]):
    """Connects, agrees on TLS, asks once and closes. Subclass it and say what is asked.

    Only the TLS handshake may outlast the attempt. Giving it up would make a busy server do its
    work again, and with many instances that would never end. The question that follows has the time
    of a whole attempt; a server that took the question and says nothing is asked again on a new
    connection, since another one may answer behind the same address.

    Args:
        place: Who is asked.
        tls: How to check its certificate.

    Attributes:
        protocol: What is spoken, in words.
        alpn: Its names in ALPN.
        has_question: Whether anything is asked once the connection is there.
        with_tls: How to ask with TLS, for a person.
    """

    keeps_open = False
    plain = "write tls=False"
    with_tls = "write tls=True"
    protocol = "the protocol"
    alpn: tuple[str, ...] = ()
    has_question = True

    def __init__(self, place: Place, tls: TlsChoice = False) -> None:
        super().__init__(place)
        self._tls = tls
        self._known = [] if place.path or tls else literal_address(place.host, place.port)
        self._deadline = self._timeout_seconds = 0.0

    def places(self) -> Sequence[Place]:
        """The only place."""
        return [self._place]

    def exchange(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> None:
        """Ask once, on a new connection."""
        self._deadline, self._timeout_seconds = deadline, timeout_seconds
        if self._stream is not None and self._is_waiting:  # the event loop has got this far
            self.interruption.adopt(self._stream.socket)
            self._exchange(self._stream, deadline, deadline - timeout_seconds)
        else:
            super().exchange(deadline, timeout_seconds, patience_seconds)

    def steps(self) -> Steps | None:
        """Connect and ask, where no name has to be looked up, and no TLS to be agreed on."""
        return self._from_the_start(*self._known[0]) if self._known else None

    def _from_the_start(self, family: int, address: tuple[object, ...] | str) -> Steps:
        self.phase = StreamPhase.CONNECT
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            # Called again it says how far it has come: on this machine it is there by then.
            code = sock.connect_ex(address) and sock.connect_ex(address)
            while code in _UNDER_WAY:
                yield Wait(sock, writes=True)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                code = code or sock.connect_ex(address)
            if code not in _CONNECTED:
                raise OSError(code, os.strerror(code))
        except BaseException:
            sock.close()
            raise
        stream = self.use(sock, 0.0)
        if self.has_question:
            yield from self._in_steps(stream)

    def log_in(self, stream: DeadlineStream, place: Place) -> None:
        """Agree on TLS; from there on the attempt has no more than its time."""
        self.secure(stream, place)
        if (now := time.monotonic()) > self._deadline:
            stream.begin(now + self._timeout_seconds)
        else:
            self.accepted_at = 0.0
            stream.begin(self._deadline)

    def secure(self, stream: DeadlineStream, place: Place) -> None:
        """Agree on TLS, where it was chosen."""
        context = shared_context(*self.alpn) if self._tls is True else self._tls
        if isinstance(context, ssl.SSLContext):
            self.phase = StreamPhase.TLS
            stream.start_tls(context, place.host)

    def ask_on(self, stream: DeadlineStream) -> None:
        """Send the question."""

    def hear_from(self, stream: DeadlineStream) -> None:
        """Read the answer. Raise what is wrong with it."""

    def wrong_server(self) -> ProtocolFault:
        """Something else answers there, and waiting won't help."""
        reason = f"{{where}} answers, but does not speak {self.protocol}"
        return ProtocolFault("InvalidResponse", reason, permanent=True)

    def wrong_answer(self) -> ProtocolFault:
        """It speaks the protocol, but gave an answer that is never right."""
        reason = f"{{where}} answered, but not as {self.protocol} has it: is it a proxy?"
        return ProtocolFault("WrongAnswer", reason, permanent=True)

    def wants_tls(self) -> ProtocolFault:
        """It speaks TLS, and was asked without it."""
        reason = f"{{where}} expects TLS: {self.with_tls}"
        return ProtocolFault("TlsMismatch", reason, permanent=True)


_SessionT = TypeVar("_SessionT", bound=ExchangeSession)


class ExchangeProbe(BlockingProbe[_SessionT]):
    """Asks with an `ExchangeSession`. Between attempts there is no connection to watch."""

    changed: Callable[..., Coroutine[Any, Any, None]] = Probe.changed
