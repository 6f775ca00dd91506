"""An HTTP service that answers as it should.

It speaks HTTP/1.1 with the standard library, one request on one connection in a thread of its own:
so a total deadline holds, whatever the server does, and it works on asyncio and trio alike.
"""

import json
import ssl
from collections.abc import Collection, Mapping
from http.client import (
    BadStatusLine,
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    RemoteDisconnected,
)
from urllib.parse import SplitResult, urlsplit

from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._hardening.text import mistake_in
from orchestrator._ports import Target
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator.checks._socket_probe import SocketProbe, host_and_port, shared_context

_MOST_BYTES = 64 * 1024
"""How much of an answer is read for a field of JSON."""

_OK = range(200, 300)
_PERMANENT = frozenset({401, 403, 405, 410})
"""What the same request gets again until somebody changes the service or this check. A proxy or a
server of applications answers 404, too, while what is behind it is still starting."""

_TLS_ALERT = "\x15\x03"
"""What a server says on a plain connection that it expects TLS on."""


class HttpProbe(SocketProbe):
    """See `http`."""

    protocol = "HTTP"
    plain = "write http://"
    secure = "write https://"

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
        self._parts = _checked(url)
        super().__init__(host_and_port(self._parts.hostname or "", self._port))
        self._method = require(method, str, "method", "write method='HEAD'")
        self._status = status
        self._headers = dict(headers)
        self._field = field
        self._tls = tls

    @property
    def target(self) -> Target:
        """The service; nothing of the URL behind the port."""
        host = self._parts.hostname or ""
        return Target("http", host, self._port, operation=self._method)

    @property
    def _port(self) -> int:
        return self._parts.port or (443 if self._parts.scheme == "https" else 80)

    def talk(self, deadline: float) -> None:
        """Make one request."""
        parts, host = self._parts, self._parts.hostname or ""
        tls = (self._tls or shared_context()) if parts.scheme == "https" else None
        link = self.open(host, self._port, deadline, tls)
        connection = HTTPConnection(host, self._port)
        connection.sock = link.sock
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(self._method, path, headers={"Connection": "close", **self._headers})
            response = connection.getresponse()
            if response.status not in self._status:
                reason = f"{self.where} answered {response.status}"
                permanent = response.status in _PERMANENT
                raise ProtocolFault("HTTPStatus", reason, permanent=permanent)
            if self._field is not None:
                self._look(response, *self._field)
        except RemoteDisconnected:
            raise ConnectionResetError from None
        except BadStatusLine as error:
            is_alert = str(error).startswith(_TLS_ALERT)
            raise (self.wants_tls() if is_alert else self.wrong_server()) from None
        except (HTTPException, UnicodeError):
            raise self.wrong_server() from None

    def _look(self, response: HTTPResponse, name: str, wanted: object) -> None:
        try:
            found: object = json.loads(response.read(_MOST_BYTES))
        except ValueError:
            raise ProtocolFault("InvalidJson", f"{self.where} did not answer with JSON") from None
        for key in name.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found != wanted:
            reason = f"in the answer of {self.where}, {name} does not have the expected value"
            raise ProtocolFault("WrongValue", reason)


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
        url: What is asked. Nothing of it but host and port is ever shown.
        method: The method of the request.
        status: The statuses that are right; 200 to 299 if not given.
        headers: Sent with the request.
        field: The name of a field of a JSON answer and what it must be; dots lead into it, as in
            `("checks.database", "up")`.
        tls: How to check the server's certificate; as the system does if not given.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the URL cannot be asked. The text never holds it.
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
