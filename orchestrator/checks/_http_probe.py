"""An HTTP service that gives the right answer.

It speaks HTTP/1.1 with the standard library, one request on one connection in a thread of its own:
so a total deadline holds, whatever the server does, and it works on asyncio and trio alike.
"""

import io
import json
import re
import socket
import ssl
from collections.abc import Collection, Mapping
from functools import partial
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    RemoteDisconnected,
)
from typing import cast
from urllib.parse import SplitResult, quote, urlsplit

from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._hardening.text import mistake_in
from orchestrator._ports import Target
from orchestrator._probing.addresses import Place
from orchestrator._probing.deadline_stream import DeadlineStream
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator.checks._exchange_session import ExchangeProbe, ExchangeSession, TlsChoice
from states._records import record

_MOST_BYTES = 64 * 1024
"""How much of an answer is read for a field of JSON."""

_OK = range(200, 300)
_PERMANENT = frozenset({401, 403, 405, 410})
"""The same request gets these again until the service or this check is changed. Not 404: proxies
and application servers answer it, too, while what is behind them is still starting."""

_INTERIM = range(102, 200)
"""Such as 103, hints for a browser; the answer itself is still to come."""

_AS_IT_IS = "".join(map(chr, range(33, 127)))
"""What a path may hold; all else is encoded, as browsers do it."""

_MOST_HEAD_BYTES = 4096
_WHOLE_HEAD = re.compile(rb"HTTP/1\.[01] ([2-5][0-9][0-9])[ \r](?s:.*?)\r\n\r\n")
"""The head of an answer that comes in one piece, as it nearly always does; not an interim one."""

_TLS_ALERT = "\x15\x03"
"""What a server says on a plain connection if it expects TLS."""


@record
class _HttpQuestion:
    """What to ask, and which answers are right; see `http`."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: Collection[int]
    field: tuple[str, object] | None

    def written_for(self, place: Place) -> bytes:
        """The request.

        Raises:
            ValueError: When it cannot be written. The text never holds any of it.
        """
        written = _Written()
        connection = HTTPConnection(place.host, place.port)
        connection.sock = cast("socket.socket", written)
        headers = {"Connection": "close", **self.headers}
        try:
            connection.request(self.method, self.path, headers=headers)
        except (ValueError, TypeError, AttributeError):  # a UnicodeError is a ValueError, too
            needs = "write them on one line, in ASCII, the values of headers in Latin-1"
            raise ValueError(
                f"host of the url, method or headers cannot be sent; {needs}"
            ) from None
        return written.getvalue()


class HttpSession(ExchangeSession):
    """One request.

    Args:
        place: Who is asked.
        tls: How to check its certificate.
        question: What to ask.
    """

    protocol = "HTTP"
    plain = "write http://"
    with_tls = "write https://"

    def __init__(self, place: Place, tls: TlsChoice, question: _HttpQuestion) -> None:
        super().__init__(place, tls)
        self._question = question
        self._request = question.written_for(place)

    def ask_on(self, stream: DeadlineStream) -> None:
        """Send the request."""
        stream.write(self._request)

    def hear_from(self, stream: DeadlineStream) -> None:
        """Look at status and body."""
        question = self._question
        if question.field is None:
            # Parsing the headers properly takes as long as the rest of an attempt.
            found = _WHOLE_HEAD.match(stream.read_some(_MOST_HEAD_BYTES))
            if found is not None and int(found[1]) in question.status:
                return
            stream.rewind()
        response = HTTPResponse(_as_socket(stream), method=question.method)
        try:
            response.begin()
            while response.status in _INTERIM:
                response.headers = None  # type: ignore[assignment]  # so it reads another head
                response.begin()
            if response.status not in question.status:
                reason = f"{{where}} answered {response.status}"
                permanent = response.status in _PERMANENT
                raise ProtocolFault("HTTPStatus", reason, permanent=permanent)
            if question.field is not None:
                _look_for(response, *question.field)
        except RemoteDisconnected:
            raise ConnectionResetError from None
        except BadStatusLine as error:
            is_alert = str(error).startswith(_TLS_ALERT)
            raise (self.wants_tls() if is_alert else self.wrong_server()) from None
        except (HTTPException, UnicodeError):
            raise self.wrong_server() from None


class _Written(io.BytesIO):
    """What `http.client` needs of a socket to write to."""

    def sendall(self, data: bytes) -> None:
        self.write(data)


class _StreamAsSocket(io.RawIOBase):
    """What `http.client` needs of a socket, so that each of its reads keeps the deadline."""

    def __init__(self, stream: DeadlineStream) -> None:
        super().__init__()
        self._stream = stream

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # a memoryview it is
        try:
            data = self._stream.read_some(len(buffer))
        except ConnectionResetError:  # this ends a body, too
            return 0
        buffer[: len(data)] = data
        return len(data)


def _as_socket(stream: DeadlineStream) -> socket.socket:
    return cast("socket.socket", _StreamAsSocket(stream))


def _look_for(response: HTTPResponse, name: str, wanted: object) -> None:
    """Compare a field of the body."""
    try:
        found: object = json.loads(response.read(_MOST_BYTES))
    except ValueError:
        raise ProtocolFault("InvalidJson", "{where} did not answer with JSON") from None
    for key in name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if found != wanted:
        reason = f"in the answer of {{where}}, {name} does not have the expected value"
        raise ProtocolFault("WrongValue", reason)


class HttpProbe(ExchangeProbe[HttpSession]):
    """See `http`."""

    def __init__(
        self,
        url: str,
        *,
        method: str,
        status: Collection[int],
        headers: Mapping[str, str],
        field: tuple[str, object] | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        parts = _checked(url)
        is_secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if is_secure else 80)
        self._method = require(method, str, "method", "write method='HEAD'")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path = quote(path, safe=_AS_IT_IS)
        question = _HttpQuestion(method, path, dict(headers), status, field)
        place = Place(host=self._host, port=self._port)
        make_session = partial(HttpSession, place, is_secure and (tls or True), question)
        super().__init__(make_session, "http-probe")

    @property
    def target(self) -> Target:
        """The service, without the URL's path and query."""
        return Target("http", self._host, self._port, operation=self._method)


def http(
    url: str,
    *,
    method: str = "GET",
    status: Collection[int] = _OK,
    headers: Mapping[str, str] | None = None,
    field: tuple[str, object] | None = None,
    tls: ssl.SSLContext | None = None,
) -> HttpProbe:
    """A probe that makes one request, follows no redirect, and uses no proxy.

    Example::

        Check("billing", http("https://billing/health", field=("status", "pass")))

    Args:
        url: What is asked. Only its host and port are ever shown.
        method: The method of the request.
        status: The statuses that are right; 200 to 299 if not given.
        headers: Sent with the request.
        field: The name of a field in the JSON answer and its expected value; dots lead inside, as
            in
            `("checks.database", "up")`.
        tls: How to check the server's certificate; as the system does if not given.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the URL, the method or a header cannot be used. The text never holds it.
    """
    return HttpProbe(url, method=method, status=status, headers=headers or {}, field=field, tls=tls)


def _checked(url: str) -> SplitResult:
    given: object = url
    if not isinstance(given, str):
        raise wrong_type(given, "url", "a URL", "write http('http://billing:8080/health')")
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not given.isprintable() or " " in given:
        write = "cannot be used; write http://HOST:PORT/PATH or https://..."
        raise ValueError(f"url {mistake_in(given, write)}")
    if parts.username is not None:
        raise ValueError("url has a user name in it; give headers={'Authorization': ...} instead")
    return parts
