"""A gRPC service that says that it serves, by `grpc.health.v1`.

It makes one call on one HTTP/2 connection, with h2 and a socket of our own. grpcio would do it in
fewer lines, but its native threads stay when the channel is closed, it writes to standard error
when TLS fails, loading it takes 0.4 s, and what went wrong stands only in its texts.
"""

import re
import ssl
from collections.abc import Mapping
from types import ModuleType
from urllib.parse import unquote

from orchestrator._hardening.arguments import MOST_PORT, require, wrong_type
from orchestrator._hardening.extras import needs
from orchestrator._hardening.text import mistake_in
from orchestrator._http.grpc_health import SERVICE, ServingStatus, request_for, status_in
from orchestrator._ports import Target
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator.checks._socket_probe import (
    Link,
    SocketProbe,
    TlsChoice,
    host_and_port,
    require_tls,
    shared_context,
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
"""What the same call gets again until somebody changes the server or this check."""


class GrpcProbe(SocketProbe):
    """See `grpc`."""

    protocol = "gRPC"

    def __init__(
        self, address: str, service: str, *, tls: TlsChoice, metadata: Mapping[str, str]
    ) -> None:
        self._h2 = _load_h2()
        self._host, self._port = _place(address)
        super().__init__(host_and_port(self._host, self._port))
        self._service = require(service, str, "service", "write grpc('chat:50051', 'chat.Chat')")
        self._tls = require_tls(tls)
        self._metadata = _checked(metadata)

    @property
    def target(self) -> Target:
        """The server."""
        return Target(
            "grpc", self._host, self._port or None, operation="grpc.health.v1.Health/Check"
        )

    def talk(self, deadline: float) -> None:
        """Call `Check` once."""
        context = self._tls if isinstance(self._tls, ssl.SSLContext) else None
        if self._tls is True:
            context = shared_context("h2")
        link = self.open(self._host, self._port, deadline, context)
        if isinstance(link.sock, ssl.SSLSocket) and link.sock.selected_alpn_protocol() != "h2":
            own = (
                " (the SSLContext needs set_alpn_protocols(['h2']))" if context is self._tls else ""
            )
            reason = f"{self.where} did not agree on HTTP/2 in TLS{own}"
            raise ProtocolFault("InvalidResponse", reason, permanent=True)
        call = _HealthCall(self._h2, link, self)
        call.begin(self._headers(), request_for(self._service))
        self._judge(call.finish())

    def _headers(self) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", "https" if self._tls else "http"),
            (":path", f"/{SERVICE}/Check"),
            (":authority", self.where if self._port else "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "startup-orchestrator"),
            *self._metadata,
        ]

    def _judge(self, message: bytes) -> None:
        try:
            status = status_in(message)
        except ValueError:
            raise self.wrong_answer() from None
        if status is not ServingStatus.SERVING:
            unknown = status is ServingStatus.SERVICE_UNKNOWN
            what = _PERMANENT["NOT_FOUND"] if unknown else f"says {status.name}"
            raise ProtocolFault(status.name, f"{self.where} {what}", permanent=unknown)


class _HealthCall:
    """One call with one message each way, on one connection."""

    def __init__(self, h2: ModuleType, link: Link, probe: GrpcProbe) -> None:
        self._h2 = h2
        self._link = link
        self._probe = probe
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self._wire = h2.connection.H2Connection(config)
        self._headers: dict[bytes, bytes] = {}
        self._body = b""
        self._heard = False

    def begin(self, headers: list[tuple[str, str]], message: bytes) -> None:
        """Send the request."""
        wire = self._wire
        wire.initiate_connection()
        stream = wire.get_next_available_stream_id()
        wire.send_headers(stream, headers)
        wire.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
        self._link.send(wire.data_to_send())

    def finish(self) -> bytes:
        """Read the answer; return its message.

        Raises:
            ProtocolFault: When there is none.
        """
        while not self._take(self._link.receive()):
            if answer := self._wire.data_to_send():
                self._link.send(answer)
        name = self._status_name()
        if name is not None:
            what = _PERMANENT.get(name, f"answered {name}")
            reason = f"{self._probe.where} {what}"
            raise ProtocolFault(name, reason, permanent=name in _PERMANENT)
        size = int.from_bytes(self._body[1:5], "big")
        if self._body[:1] != b"\0" or len(self._body) != size + 5:
            raise self._probe.wrong_answer()
        return self._body[5:]

    def _take(self, data: bytes) -> bool:
        """Take what came; return whether that was the end of the answer."""
        if not self._heard and data.startswith(b"\x15\x03"):  # an alert
            raise self._probe.wants_tls()
        if not self._heard and data[3:4] not in (b"", b"\x04"):  # every server begins with SETTINGS
            raise self._probe.wrong_server()
        self._heard = True
        events = self._h2.events
        try:
            came = self._wire.receive_data(data)
        except self._h2.exceptions.ProtocolError:
            raise self._probe.wrong_server() from None
        for event in came:
            if isinstance(event, events.ResponseReceived | events.TrailersReceived):
                self._headers.update(event.headers)
            elif isinstance(event, events.DataReceived):
                self._body += event.data
                if len(self._body) > _MOST_MESSAGE_BYTES:
                    raise self._probe.wrong_answer()
            elif isinstance(event, events.StreamReset | events.ConnectionTerminated):
                reason = f"{self._probe.where} ended the call without an answer"
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
            raise self._probe.wrong_server()
        if int(answered) in _OF_HTTP:
            return _OF_HTTP[int(answered)]
        raise ProtocolFault("HTTPStatus", f"{self._probe.where} answered HTTP {int(answered)}")


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


def _place(address: str) -> tuple[str, int]:
    """Host and port; the path of a Unix socket, and 0."""
    require(address, str, "address", "write grpc('users.internal:50051')")
    if found := _UNIX.fullmatch(address):
        return unquote(found[1]), 0
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) <= MOST_PORT:
        write = "cannot be used; write HOST:PORT, [::1]:PORT or unix:/path"
        raise ValueError(f"address {mistake_in(address, write)}")
    return found[1].strip("[]"), int(found[2])


def _checked(metadata: Mapping[str, str]) -> list[tuple[str, str]]:
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
