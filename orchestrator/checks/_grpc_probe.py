"""A gRPC service that says that it serves, by `grpc.health.v1`.

It makes one call on one HTTP/2 connection, with h2 and a socket of our own. grpcio would do it in
fewer lines, but its native threads stay when the channel is closed, it writes to standard error
when TLS fails, loading it takes 0.4 s, and what went wrong stands only in its texts.
"""

import re
import ssl
from collections.abc import Mapping
from functools import partial
from types import ModuleType
from urllib.parse import unquote

from orchestrator._hardening.arguments import MOST_PORT, require, wrong_type
from orchestrator._hardening.extras import needs
from orchestrator._hardening.text import mistake_in
from orchestrator._http.grpc_health import SERVICE, ServingStatus, request_for, status_in
from orchestrator._ports import Target
from orchestrator._probing.addresses import Place
from orchestrator._probing.deadline_stream import DeadlineStream
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator.checks._exchange_session import (
    ExchangeProbe,
    ExchangeSession,
    TlsChoice,
    require_tls,
)

_ADDRESS = re.compile(r"(?:dns:(?:///)?)?(\[[0-9A-Za-z:.%_-]+\]|[^\s:/\[\]@\"'${}]+):([0-9]{1,5})")
_UNIX = re.compile(r"unix:(?://(?=/))?(.+)")
_METADATA_KEY = re.compile(r"(?!grpc-)[0-9a-z_.-]+(?<!-bin)")
_MOST_MESSAGE_BYTES = 64 * 1024

_STATUS = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
"""https://github.com/grpc/grpc/blob/master/doc/statuscodes.md"""

_OF_HTTP = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED"}
"""https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md, as far as it says more
than that the service is not there."""

_PERMANENT = {
    "NOT_FOUND": "does not know the service that is asked for",
    "UNIMPLEMENTED": f"serves no {SERVICE}: add it to the server, or use tcp() here",
    "UNAUTHENTICATED": "wants to know who asks: give metadata={'authorization': ...}",
    "PERMISSION_DENIED": "does not let this client ask",
}
"""What the same call will get until the server or this check is changed."""


_Headers = list[tuple[str, str]]


class GrpcSession(ExchangeSession):
    """One call of `Check`.

    Args:
        place: Who is asked.
        tls: How to check its certificate.
        h2: The package.
        metadata: Sent with the call.
        request: Its message.
    """

    protocol = "gRPC"
    alpn = ("h2",)

    def __init__(
        self, place: Place, tls: TlsChoice, h2: ModuleType, metadata: _Headers, request: bytes
    ) -> None:
        super().__init__(place, tls)
        self._h2 = h2
        self._request = request
        self._headers: _Headers = [
            (":method", "POST"),
            (":scheme", "https" if tls else "http"),
            (":path", f"/{SERVICE}/Check"),
            (":authority", "localhost" if place.path else place.where),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "startup-orchestrator"),
            *metadata,
        ]

    def secure(self, stream: DeadlineStream, place: Place) -> None:
        """Agree on TLS, and in it on HTTP/2."""
        super().secure(stream, place)
        if self._tls and stream.alpn_protocol != "h2":
            own = isinstance(self._tls, ssl.SSLContext)
            hint = " (the SSLContext needs set_alpn_protocols(['h2']))" if own else ""
            reason = f"{{where}} did not agree on HTTP/2 in TLS{hint}"
            raise ProtocolFault("InvalidResponse", reason, permanent=True)

    def steps(self) -> None:
        """What was read of an answer is not read again."""

    def hear_from(self, stream: DeadlineStream) -> None:
        """Make the call, and judge the answer."""
        call = _HealthCall(self._h2, stream, self)
        call.begin(self._headers, self._request)
        try:
            status = status_in(call.finish())
        except ValueError:
            raise self.wrong_answer() from None
        if status is not ServingStatus.SERVING:
            unknown = status is ServingStatus.SERVICE_UNKNOWN
            what = _PERMANENT["NOT_FOUND"] if unknown else f"says {status.name}"
            raise ProtocolFault(status.name, f"{{where}} {what}", permanent=unknown)


class GrpcProbe(ExchangeProbe[GrpcSession]):
    """See `grpc`."""

    def __init__(
        self, address: str, service: str, *, tls: TlsChoice, metadata: Mapping[str, str]
    ) -> None:
        h2 = _load_h2()
        self._place = _place(address)
        require(service, str, "service", "write grpc('chat:50051', 'chat.Chat')")
        headers, request = _checked(metadata), request_for(service)
        super().__init__(
            partial(GrpcSession, self._place, require_tls(tls), h2, headers, request), "grpc-probe"
        )

    @property
    def target(self) -> Target:
        """The server."""
        place = self._place
        operation = "grpc.health.v1.Health/Check"
        return Target("grpc", place.path or place.host, place.port or None, operation=operation)


class _HealthCall:
    """One call with one message each way, on one connection."""

    def __init__(self, h2: ModuleType, stream: DeadlineStream, session: GrpcSession) -> None:
        self._h2 = h2
        self._stream = stream
        self._session = session
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._wire = h2.connection.H2Connection(config)
        self._headers: dict[bytes, bytes] = {}
        self._body = b""
        self._heard = False

    def begin(self, headers: _Headers, message: bytes) -> None:
        """Send the request."""
        wire = self._wire
        wire.initiate_connection()
        stream = wire.get_next_available_stream_id()
        wire.send_headers(stream, headers)
        wire.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        self._stream.write(wire.data_to_send())

    def finish(self) -> bytes:
        """Read the answer; return its message.

        Raises:
            ProtocolFault: When there is none.
        """
        while not self._take(self._stream.read_some(_MOST_MESSAGE_BYTES)):
            if answer := self._wire.data_to_send():
                self._stream.write(answer)
        name = self._status_name()
        if name is not None:
            what = _PERMANENT.get(name, f"answered {name}")
            reason = f"{{where}} {what}"
            raise ProtocolFault(name, reason, permanent=name in _PERMANENT)
        size = int.from_bytes(self._body[1:5], "big")
        if self._body[:1] != b"\0" or len(self._body) != size + 5:
            raise self._session.wrong_answer()
        return self._body[5:]

    def _take(self, data: bytes) -> bool:
        """Take what came; return whether that was the end of the answer."""
        if not self._heard and data.startswith(b"\x15\x03"):  # an alert
            raise self._session.wants_tls()
        if not self._heard and data[3:4] not in (b"", b"\x04"):  # every server begins with SETTINGS
            raise self._session.wrong_server()
        self._heard = True
        events = self._h2.events
        try:
            came = self._wire.receive_data(data)
        except self._h2.exceptions.ProtocolError:
            raise self._session.wrong_server() from None
        for event in came:
            if isinstance(event, events.ResponseReceived | events.TrailersReceived):
                self._headers.update(event.headers)
            elif isinstance(event, events.DataReceived):
                self._body += event.data
                if len(self._body) > _MOST_MESSAGE_BYTES:
                    raise self._session.wrong_answer()
            elif isinstance(event, events.StreamReset | events.ConnectionTerminated):
                reason = "{where} ended the call without an answer"
                raise ProtocolFault("UNAVAILABLE", reason)
            elif isinstance(event, events.StreamEnded):
                return True
        return False

    def _status_name(self) -> str | None:
        """The name of the status that the call ended with; `None` for OK."""
        status = self._headers.get(b"grpc-status")
        if status == b"0":
            return None
        if status is not None:
            return _STATUS.get(int(status) if status.isdigit() else -1, "UNKNOWN")
        answered = self._headers.get(b":status", b"")
        if answered == b"200" or not answered.isdigit():
            raise self._session.wrong_server()
        if int(answered) in _OF_HTTP:
            return _OF_HTTP[int(answered)]
        raise ProtocolFault("HTTPStatus", f"{{where}} answered HTTP {int(answered)}")


def grpc(
    address: str,
    service: str = "",
    *,
    tls: TlsChoice = False,
    metadata: Mapping[str, str] | None = None,
) -> GrpcProbe:
    """A probe that asks a gRPC server whether it serves, by `grpc.health.v1`.

    Example::

        Check("users", grpc("users.internal:50051", "users.v1.Users"))

    It holds while the answer is `SERVING`. A server without the health service, one that does not
    know the service asked for, and one that does not let us ask are permanent failures.

    Args:
        address: `host:port`, also with `dns:///` in front, or `unix:/path`. No proxy is used.
        service: The service that is asked for; empty for the server as a whole.
        tls: `True` to check the certificate as the system does, or a context of your own, on which
            `set_alpn_protocols(["h2"])` was called.
        metadata: Sent with each call, such as `{"authorization": "Bearer ..."}`; never shown.

    Raises:
        ModuleNotFoundError: Without h2, which the extra `grpc` brings.
        TypeError: When an argument is of the wrong type.
        ValueError: When the address or the metadata cannot be used. The text never holds it.
    """
    return GrpcProbe(address, service, tls=tls, metadata=metadata or {})


def _load_h2() -> ModuleType:
    with needs("grpc()", "h2", "h2", "grpc"):
        import h2
        import h2.config
        import h2.connection
        import h2.events
        import h2.exceptions
    return h2


def _place(address: str) -> Place:
    require(address, str, "address", "write grpc('users.internal:50051')")
    if found := _UNIX.fullmatch(address):
        return Place(path=unquote(found[1]))
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) <= MOST_PORT:
        write = "cannot be used; write HOST:PORT, [::1]:PORT or unix:/path"
        raise ValueError(f"address {mistake_in(address, write)}")
    return Place(host=found[1].strip("[]"), port=int(found[2]))


def _checked(metadata: Mapping[str, str]) -> _Headers:
    given: object = metadata
    if not isinstance(given, Mapping):
        write = "write metadata={'authorization': 'Bearer ...'}"
        raise wrong_type(given, "metadata", "a mapping", write)
    pairs = []
    for key, value in given.items():
        name = require(key, str, "a key of metadata", "write it as text").lower()
        text = require(value, str, "a value of metadata", "write it as text")
        if not _METADATA_KEY.fullmatch(name) or not (text.isascii() and text.isprintable()):
            raise ValueError(
                "metadata has a key or a value that gRPC does not allow: keys are letters, digits,"
                " '_', '-' and '.', values are printable ASCII"
            )
        pairs.append((name, text))
    return pairs
