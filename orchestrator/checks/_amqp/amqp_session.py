"""One connection to a broker: the login, and a channel opened and closed for each attempt."""

import ssl
from collections.abc import Mapping, Sequence

from orchestrator._probing.deadline_stream import DeadlineStream
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator._probing.stream_session import StreamPhase, StreamSession
from orchestrator._probing.tls_files import client_context
from orchestrator.checks._amqp.amqp_url import Broker
from orchestrator.checks._amqp.amqp_wire import (
    HEADER,
    Arguments,
    Method,
    frame,
    long,
    receive_method,
    short,
    table,
)

_PRODUCT: Mapping[str, bytes | Mapping[str, bool]] = {
    "product": b"startup-orchestrator",
    # So that the server says that a password is wrong, instead of just closing.
    "capabilities": {"authentication_failure_close": True},
}
_CHANNEL = 1
_CLOSED_WELL = b"\x00\xc8\x00" + b"\x00\x00\x00\x00"  # 200, no text, no method to blame

_REFUSED, _FORCED, _NOT_ALLOWED = 403, 320, 530
_KNOWN = {
    311: "CONTENT_TOO_LARGE",
    402: "INVALID_PATH",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    501: "FRAME_ERROR",
    502: "SYNTAX_ERROR",
    503: "COMMAND_INVALID",
    504: "CHANNEL_ERROR",
    505: "UNEXPECTED_FRAME",
    506: "RESOURCE_ERROR",
    540: "NOT_IMPLEMENTED",
    541: "INTERNAL_ERROR",
}
"""Reply codes of the specification, section 1.2, which say themselves what went wrong."""


class AmqpSession(StreamSession[Broker]):
    """Asks whether the broker opens a channel.

    Args:
        brokers: Where to try, in order.
        tls: The application's own TLS context, if it has one.
    """

    plain = "use amqp://"
    goodbye = frame(Method.CLOSE, _CLOSED_WELL)

    def __init__(self, brokers: tuple[Broker, ...], tls: ssl.SSLContext | None) -> None:
        super().__init__(brokers[0])
        self._brokers = brokers
        self._tls = tls

    def places(self) -> Sequence[Broker]:
        """The brokers, in order."""
        return self._brokers

    def log_in(self, stream: DeadlineStream, place: Broker) -> None:
        """Log in, from TLS to the virtual host."""
        if place.tls:
            self.phase = StreamPhase.TLS
            context = self._tls or client_context(
                place.files, verify=place.verify, check_hostname=True
            )
            stream.start_tls(context, place.server_name or place.host)
        self.phase = StreamPhase.LOGIN
        stream.write(HEADER)
        start = _await(stream, Method.START, place)
        start.take(2)
        start.long_string()  # what the server says of itself
        mechanism, response = b"PLAIN", f"\0{place.user}\0{place.password}".encode()
        if place.external:
            mechanism, response = b"EXTERNAL", b""
        if mechanism not in start.long_string().split():
            reason = f"{{where}} does not offer {mechanism.decode()} to log in with"
            raise ProtocolFault("AuthenticationMethod", reason, permanent=True)
        answer = table(_PRODUCT) + short(mechanism) + long(response) + short(b"en_US")
        stream.write(frame(Method.START_OK, answer))
        tune = _await(stream, Method.TUNE, place)
        # The server's own limits, and no heartbeats: silence between attempts is no fault.
        limits = tune.take(6) + b"\x00\x00"
        host = short(place.vhost.encode()) + b"\x00\x00"
        stream.write(frame(Method.TUNE_OK, limits) + frame(Method.OPEN, host))
        _await(stream, Method.OPEN_OK, place)

    def ask_on(self, stream: DeadlineStream) -> None:
        """Open a channel, and close it again."""
        stream.write(
            frame(Method.CHANNEL_OPEN, b"\x00", _CHANNEL)
            + frame(Method.CHANNEL_CLOSE, _CLOSED_WELL, _CHANNEL)
        )

    def hear_from(self, stream: DeadlineStream) -> None:
        """Read the confirmation of both."""
        _await(stream, Method.CHANNEL_OPEN_OK, self._place)
        _await(stream, Method.CHANNEL_CLOSE_OK, self._place)


def _await(stream: DeadlineStream, wanted: Method, place: Broker) -> Arguments:
    """The arguments of the method that must come next."""
    method, arguments = receive_method(stream)
    if method is wanted:
        return arguments
    if method in (Method.CLOSE, Method.CHANNEL_CLOSE):
        raise _said(arguments.number(2), arguments.short_string(), wanted, place)
    reason = "{where} answered, but not as AMQP 0-9-1 has it: is it a proxy?"
    raise ProtocolFault("WrongAnswer", reason, permanent=True)


def _said(code: int, text: bytes, wanted: Method, place: Broker) -> ProtocolFault:
    """Why the server closed. Its text is looked at for one word, and never shown."""
    if b"limit" in text:
        reason = "{where} has as many connections as it allows"
        return ProtocolFault("TooManyConnections", reason, congestion=True)
    match code:
        case _ if code == _REFUSED and wanted in (Method.TUNE, Method.OPEN_OK):
            reason = "{where} rejected the login: wrong user or password"
            if place.user == "guest":
                reason += "; by default, guest may log in on the broker's own machine only"
            return ProtocolFault("AuthenticationError", reason, permanent=True)
        case _ if code == _NOT_ALLOWED and wanted is Method.OPEN_OK:
            reason = "{where} has no such virtual host, or does not let this user in there"
            return ProtocolFault("UnknownVirtualHost", reason, permanent=True)
        case _ if code == _FORCED:
            reason = "{where} ended the connection: it is shutting down, or someone closed it"
            return ProtocolFault("ConnectionForced", reason)
        case _:
            named = _KNOWN.get(code, "an error that AMQP does not know")
            return ProtocolFault("AmqpError", f"{{where}} answered with {named}")
