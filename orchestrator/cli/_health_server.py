"""A very small HTTP server for the health endpoints and the status page of `run`.

It takes one small request without a body on each connection, and refuses everything else early:
what asks here are probes. What is answered is up to an ASGI application.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus

import anyio
from anyio.abc import SocketAttribute, SocketListener, SocketStream, TaskStatus

from orchestrator.asgi._types import ASGIApp, Message
from orchestrator.cli._errors import UserError

_MOST_HEAD_BYTES = 8192
_MOST_CONNECTIONS = 64
_CLIENT_SECONDS = 5.0
"""How long a client may take for its request, and then for the answer."""

_LINGER_SECONDS = 1.0
_END_OF_HEAD = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/(\d)\.(\d)")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")


class _RefusedError(Exception):
    """A request that is not taken.

    Args:
        status: The status to refuse it with.
    """

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status)
        self.status = status


class HealthServer:
    """Serves an ASGI application that answers GET and HEAD.

    Args:
        app: The application.
        listeners: Where to listen; see `open_port`. They are closed at the end.
    """

    def __init__(self, app: ASGIApp, listeners: list[SocketListener]) -> None:
        self._app = app
        self._listeners = listeners
        self._connections = 0

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Serve until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                for listener in self._listeners:
                    tasks.start_soon(listener.serve, self._talk, tasks)
                task_status.started()
        finally:
            with anyio.CancelScope(shield=True):
                for listener in self._listeners:
                    await listener.aclose()

    async def _talk(self, stream: SocketStream) -> None:
        async with stream:
            if self._connections >= _MOST_CONNECTIONS:
                return  # a probe among so many takes it for a failure, and rightly so
            self._connections += 1
            try:
                await self._answer(stream)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                pass  # the client has gone
            except OSError:
                pass  # the same, or it takes no answer: a TimeoutError is one too
            finally:
                self._connections -= 1

    async def _answer(self, stream: SocketStream) -> None:
        try:
            with anyio.fail_after(_CLIENT_SECONDS):
                request = _parse(await _read_head(stream))
        except TimeoutError:
            await _refuse(stream, HTTPStatus.REQUEST_TIMEOUT)
        except _RefusedError as refused:
            await _refuse(stream, refused.status)
        else:
            await _ask(self._app, request, stream)
        with anyio.fail_after(_CLIENT_SECONDS):
            await stream.send_eof()
        # Closing with unread input resets the connection, and the answer might be lost with it.
        with anyio.move_on_after(_LINGER_SECONDS):
            while True:
                await stream.receive()


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: list[tuple[bytes, bytes]]


async def _ask(app: ASGIApp, request: _Request, stream: SocketStream) -> None:
    """Let the application answer, as long as it likes: the status page has a stream of events."""
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        try:
            while True:
                await stream.receive()  # nothing is expected, and it is not looked at
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            data = _head(int(message["status"]), list(message["headers"]))
        else:
            data = message.get("body", b"")
        try:
            with anyio.fail_after(_CLIENT_SECONDS):
                await stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ConnectionResetError from None  # as applications know it of servers

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": request.headers,
    }
    await app(scope, receive, send)


async def open_port(host: str, port: int) -> list[SocketListener]:
    """Listen on a port.

    Args:
        host: The address to listen on; empty for all of them.
        port: The port; 0 takes a free one.

    Raises:
        UserError: When that is not possible.
    """
    try:
        listeners = await anyio.create_tcp_listener(local_host=host or None, local_port=port)
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(f"cannot listen on {host or 'any address'}, port {port}: {why}") from None
    return [one for one in listeners.listeners if isinstance(one, SocketListener)]


def port_of(listeners: list[SocketListener]) -> int:
    """The port that is listened on."""
    return int(listeners[0].extra(SocketAttribute.local_port))  # noqa: S610  no Django here


async def _read_head(stream: SocketStream) -> bytes:
    head = b""
    while _END_OF_HEAD not in head:
        if len(head) > _MOST_HEAD_BYTES:
            raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        head += await stream.receive(_MOST_HEAD_BYTES)
    head = head.partition(_END_OF_HEAD)[0]
    if len(head) > _MOST_HEAD_BYTES:
        raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    return head


def _parse(head: bytes) -> _Request:
    first, *lines = head.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(first)
    if request is None:
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    method, target, major, minor = request.groups()
    if major != b"1":
        raise _RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED)
    headers: list[tuple[bytes, bytes]] = []
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            raise _RefusedError(HTTPStatus.BAD_REQUEST)
        headers.append((header[1].lower(), header[2].strip()))
    names = [name for name, _ in headers]
    if names.count(b"host") != 1 and minor != b"0":  # RFC 9112, section 3.2
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    if b"transfer-encoding" in names or any(
        name == b"content-length" and value != b"0" for name, value in headers
    ):
        raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return _Request(method.decode(), target.partition(b"?")[0].decode(), headers)


async def _refuse(stream: SocketStream, status: HTTPStatus) -> None:
    body = f"{status} {status.phrase}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    with anyio.fail_after(_CLIENT_SECONDS):
        await stream.send(_head(status, headers) + body)


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join([*lines, b"connection: close", b"", b""])
