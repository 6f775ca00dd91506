"""A connection without a web server behind it: one small request, answered and closed."""

import re
from collections.abc import Callable
from enum import IntEnum
from http import HTTPStatus
from urllib.parse import unquote

import anyio
import h11
from anyio.abc import SocketStream

from orchestrator._hardening.log_thread import Log
from orchestrator._http.asgi_types import ASGIApp, Message, Scope
from orchestrator._http.health_paths import is_health_path

logger = Log("orchestrator.health")

_MOST_HEAD_BYTES = 8192

_CLIENT_SECONDS = 5.0
"""How long a client may take for its request, and then for the answer."""

_LINGER_SECONDS = 1.0

_TARGET = re.compile(rb"(?:https?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?.*", re.IGNORECASE)


class _RefusedError(Exception):
    """A request that is not taken.

    Args:
        status: The status to refuse it with.
    """

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


class RequestPhase(IntEnum):
    """Where a connection is; of the least, the oldest makes room first."""

    ANSWERED = 0
    READING = 1
    ANSWERING = 2
    OTHER = 3
    """It is answered with something else than a health check, for as long as that takes."""


class HealthConnection:
    """One client and its one request.

    Args:
        stream: The connection.
        is_crowded: Whether all places are taken that others than health checks may take.

    Attributes:
        stream: The connection.
        phase: Where it is.
        scope: Cancel it to let the client go.
    """

    def __init__(self, stream: SocketStream, is_crowded: Callable[[], bool]) -> None:
        self._is_crowded = is_crowded
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD_BYTES)
        self._is_head = False
        self.stream = stream
        self.phase = RequestPhase.READING
        self.scope = anyio.CancelScope()

    async def talk(self, app: ASGIApp) -> None:
        """Read the request, let the application answer it, and close."""
        try:
            with anyio.fail_after(_CLIENT_SECONDS):
                request = await self._read_request()
            self._is_head = request.method == b"HEAD"
            scope = _scope_of(request)
            self.phase = RequestPhase.ANSWERING
            if not is_health_path(scope["path"]):
                if self._is_crowded():
                    raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE)
                self.phase = RequestPhase.OTHER
            await self._answer(app, scope)
        except TimeoutError:
            if self.phase is not RequestPhase.READING:
                raise  # it takes no answer
            await self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        except h11.RemoteProtocolError as error:
            await self._refuse(HTTPStatus(error.error_status_hint))
        except _RefusedError as refused:
            await self._refuse(refused.status)
        self.phase = RequestPhase.ANSWERED
        with anyio.fail_after(_CLIENT_SECONDS):
            await self.stream.send_eof()
        # Closing with unread input resets the connection, and the answer might be lost with it.
        with anyio.move_on_after(_LINGER_SECONDS):
            while True:
                await self.stream.receive()

    async def _read_request(self) -> h11.Request:
        size, begun = 0, False
        while size <= _MOST_HEAD_BYTES:
            data = await self.stream.receive(_MOST_HEAD_BYTES)
            size += len(data)
            if not begun:
                data = data.lstrip(b"\r\n")  # RFC 9112, section 2.2, wants them ignored
                begun = bool(data)
            if data:
                self._wire.receive_data(data)
                event = self._wire.next_event()
                if isinstance(event, h11.Request):
                    return event
        raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    async def _answer(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application answer, as long as it likes: the status page has a stream."""
        messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            try:
                while True:
                    await self.stream.receive()  # nothing is expected, and it is not looked at
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._start(HTTPStatus(message["status"]), list(message["headers"]))
                return
            more = message.get("more_body", False)
            await self._send(message.get("body", b""), ends=not more)

        try:
            await app(scope, receive, send)
        except OSError:
            raise  # the client has gone
        except Exception as error:  # it is logged
            logger.error("the answer to a request for %.100r failed", scope["path"], error=error)
            if self._wire.our_state is h11.SEND_RESPONSE:
                await self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)

    async def _refuse(self, status: HTTPStatus) -> None:
        body = f"{status} {status.phrase}\n".encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await self._start(status, headers)
        await self._send(body, ends=True)

    async def _start(self, status: HTTPStatus, headers: list[tuple[bytes, bytes]]) -> None:
        headers.append((b"connection", b"close"))
        reason = status.phrase.encode()
        await self._write(h11.Response(status_code=status, headers=headers, reason=reason))

    async def _send(self, body: bytes, *, ends: bool) -> None:
        data = [h11.Data(data=body)] if body and not self._is_head else []
        await self._write(*data, *([h11.EndOfMessage()] if ends else []))

    async def _write(self, *events: h11.Event) -> None:
        data = b"".join(self._wire.send(event) or b"" for event in events)
        try:
            with anyio.fail_after(_CLIENT_SECONDS):
                await self.stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ConnectionResetError from None  # as applications know it of servers


def _scope_of(request: h11.Request) -> Scope:
    """The request as ASGI has it.

    Raises:
        _RefusedError: When it is none that can be answered here.
    """
    if not request.http_version.startswith(b"1."):
        raise _RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    headers = list(request.headers)
    if any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in headers
    ):
        raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    found = _TARGET.fullmatch(request.target)
    host, path, query = found.groups() if found is not None else (None, b"", b"")
    if host is not None:  # the whole URL, as proxies get it; RFC 9112, section 3.2.2
        path = path or b"/"
        headers = [(b"host", host), *(one for one in headers if one[0] != b"host")]
    if not path.startswith(b"/"):
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": request.http_version.decode(),
        "method": request.method.decode(),
        "scheme": "http",
        "path": unquote(path.decode()),
        "raw_path": path,
        "query_string": query or b"",
        "root_path": "",
        "headers": headers,
    }
