"""An HTTP service that answers as it should.

It speaks HTTP/1.1 with the standard library, one request on one connection in a thread of its own:
so a total deadline holds, whatever the server does, and it works on asyncio and trio alike.
"""

import contextlib
import json
import socket
import ssl
from collections.abc import Collection, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import SplitResult, urlsplit

from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._hardening.text import one_line
from orchestrator._ports import Target
from orchestrator._probing.abandonable import AbandonableProbe, failed
from orchestrator.checks._tcp_probe import connect
from states import Failure

_MOST_BYTES = 64 * 1024
"""How much of an answer is read for a field of JSON."""

_OK = range(200, 300)
_PERMANENT = frozenset({401, 403, 405, 410})
"""What the same request gets again until somebody changes the service or this check. A proxy or a
server of applications answers 404, too, while what is behind it is still starting."""


class HttpProbe(AbandonableProbe):
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
        super().__init__()
        self._parts = _checked(url)
        self._method = require(method, str, "method", "write method='HEAD'")
        self._status = status
        self._headers = dict(headers)
        self._field = field
        self._tls = tls
        self._socket: socket.socket | None = None

    @property
    def target(self) -> Target:
        """The service; nothing of the URL behind the port."""
        return Target(system="http", address=self._parts.hostname or "", port=self._port)

    @property
    def _port(self) -> int:
        return self._parts.port or (443 if self._parts.scheme == "https" else 80)

    def give_up(self) -> None:
        """Cut the connection, in whatever it is read."""
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def ask(self, deadline: float) -> Failure | None:
        """Ask once."""
        where = f"{self._parts.hostname}:{self._port}"
        try:
            return self._exchange(deadline, where)
        except (OSError, HTTPException, UnicodeError) as error:
            return _failure(error, where)
        finally:
            sock, self._socket = self._socket, None
            if sock is not None:
                sock.close()

    def _exchange(self, deadline: float, where: str) -> Failure | None:
        parts = self._parts
        host = parts.hostname or ""
        self._socket = sock = connect(host, self._port, deadline)
        if parts.scheme == "https":
            if self._tls is None:
                self._tls = ssl.create_default_context()
            self._socket = sock = self._tls.wrap_socket(sock, server_hostname=host)
        connection = HTTPConnection(host, self._port)
        connection.sock = sock
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(self._method, path, headers={"Connection": "close", **self._headers})
        response = connection.getresponse()
        if response.status not in self._status:
            reason = f"{where} answered {response.status}"
            return failed("HTTPStatus", reason, permanent=response.status in _PERMANENT)
        return None if self._field is None else self._look(response, where, *self._field)

    def _look(
        self, response: HTTPResponse, where: str, name: str, wanted: object
    ) -> Failure | None:
        try:
            found: object = json.loads(response.read(_MOST_BYTES))
        except ValueError:
            return failed("WrongAnswer", f"{where} answered no JSON")
        for key in name.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found != wanted:
            return failed("WrongAnswer", f"in the answer of {where}, {name} is not as it should be")
        return None


def _failure(error: Exception, where: str) -> Failure:
    """What an exception means; nothing that the server sent is in it."""
    permanent = False
    match error:
        case ConnectionRefusedError():
            reason = f"{where} refused the connection"
        case socket.gaierror():
            reason = f"the name in {where} could not be looked up"
        case ssl.SSLCertVerificationError():
            reason = f"the certificate of {where} is not trusted: {one_line(error.verify_message)}"
            permanent = True
        case ssl.SSLError():
            reason = f"TLS with {where} failed: {one_line(error.reason or 'no reason given')}"
        case TimeoutError():
            reason = f"{where} gave no answer in time"
        case OSError():
            reason = f"{where} closed the connection, or is away"
        case _:
            reason = f"what answers at {where} speaks no HTTP"
    return failed(type(error).__name__, reason, permanent=permanent)


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
        raise ValueError(
            "url is none that can be asked; write http://HOST:PORT/PATH or https://..."
        )
    if parts.username is not None:
        raise ValueError("url has a user name in it; give headers={'Authorization': ...} instead")
    return parts
