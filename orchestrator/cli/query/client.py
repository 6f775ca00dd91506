"""A small HTTP client for the endpoints of a service: quick to load, and bounded in all it does.

No proxy of the environment and no redirect is followed: a health check asks this service and no
other.
"""

import contextlib
import http.client
import queue
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from orchestrator._hardening.text import bracketed
from orchestrator.cli._shell.errors import Unreachable, UserError
from orchestrator.cli._shell.exit_codes import UNREACHABLE
from orchestrator.cli._shell.foreign_text import read_object

BEHIND_GATE = (
    'is it behind the gate? Then let it pass with bypass=[*HEALTH_PATHS, *web_paths("/startup")]'
)
NO_PAGE = (
    "does the application mount web_app(startup) at this path, or does `run` have --details there?"
)

_MOST_BYTES = 1 << 20
_MOST_LINE_BYTES = _MOST_EVENT_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a service answered.

    Attributes:
        status: The HTTP status.
        body: The body, cut off after a megabyte.
    """

    status: int
    body: bytes

    def as_object(self) -> Mapping[str, object] | None:
        """The JSON object in the body; `None` where it is something else."""
        return read_object(self.body)


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """A URL, taken apart.

    Attributes:
        tls: Whether it is https.
        host: The host.
        port: The port.
        path: The path and query, which begin with a slash.
    """

    tls: bool
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, url: str, default_path: str) -> "HttpAddress":
        """Take a URL apart; `host:port` alone is enough.

        Raises:
            UserError: When it is no URL of HTTP. The text never holds a user or a password.
        """
        if url.isdecimal():
            raise UserError(f"{url} alone is not a URL; a port is given as 127.0.0.1:{url}")
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            port, host = parts.port, parts.hostname
        except ValueError:
            parts, port, host = SplitResult("", "", "", "", ""), None, None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise UserError("the URL must be like http://127.0.0.1:8080/path, without a user")
        tls = parts.scheme == "https"
        path = parts.path if parts.path not in ("", "/") else default_path
        query = f"?{parts.query}" if parts.query else ""
        return cls(tls, host, port or (443 if tls else 80), path + query)

    def __str__(self) -> str:
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{bracketed(self.host)}:{self.port}{self.path}"

    def below(self, name: str) -> "HttpAddress":
        """The address of `name` below this one."""
        path, _, query = self.path.partition("?")
        query = f"?{query}" if query else ""
        return HttpAddress(self.tls, self.host, self.port, f"{path.rstrip('/')}/{name}{query}")

    def connect(self, timeout_seconds: float) -> http.client.HTTPConnection:
        """A connection that is not open yet; the time is for each operation of its socket."""
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        return kind(self.host, self.port, timeout=timeout_seconds)


def get(address: HttpAddress, timeout_seconds: float) -> HttpAnswer:
    """Ask once, for at most `timeout_seconds` in total.

    Raises:
        Unreachable: When there is no answer by then.
    """
    answers: queue.SimpleQueue[HttpAnswer | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_get(address, timeout_seconds))
        except Exception as error:  # it is raised again in the other thread
            answers.put(error)

    # A thread bounds the whole: the time of a socket begins anew with each byte that comes, and
    # looking up a name knows no time at all. As a daemon it does not delay the process's end.
    threading.Thread(target=ask, name="HTTP request", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_seconds)
    except queue.Empty:
        answer = TimeoutError()
    if isinstance(answer, HttpAnswer):
        return answer
    raise Unreachable(f"{address}: {_in_words(answer, timeout_seconds)}") from None


def _get(address: HttpAddress, timeout_seconds: float) -> HttpAnswer:
    connection = address.connect(timeout_seconds)
    with contextlib.closing(connection):
        connection.request("GET", address.path, headers={"Connection": "close"})
        response = connection.getresponse()
        return HttpAnswer(response.status, response.read(_MOST_BYTES))


def _in_words(error: Exception, timeout_seconds: float) -> str:
    match error:
        case TimeoutError():
            return f"no answer within {timeout_seconds:g} s"
        case ConnectionRefusedError():
            return "the connection was refused: nothing listens there"
        case socket.gaierror():
            return "the name cannot be resolved"
        case ssl.SSLError():
            return _tls_in_words(error)
        case http.client.HTTPException() | ConnectionError():
            return "the connection was closed without an HTTP answer"
        case _:
            strerror = getattr(error, "strerror", None)
            return strerror or f"it failed with {type(error).__name__}: is it a URL of HTTP?"


def _tls_in_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return "the TLS handshake failed: is it http:// there?"


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event with JSON data.

    Attributes:
        name: Its name.
        data: Its data.
    """

    name: str
    data: Mapping[str, object]


def events(address: HttpAddress, silence_seconds: float) -> Iterator[Event]:
    """The server-sent events of a service, until its stream ends.

    Args:
        address: Where they are.
        silence_seconds: How long nothing may come before the stream counts as dead.

    Raises:
        Unreachable: When there is no such stream, or it broke off.
        NoStream: When there is a service, but no such stream, or another one.
    """
    connection = address.connect(silence_seconds)
    with contextlib.closing(connection):
        try:
            accept = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
            connection.request("GET", address.path, headers=accept)
            response = connection.getresponse()
            kind = response.headers.get_content_type()
            if response.status == http.client.SERVICE_UNAVAILABLE:
                answer = HttpAnswer(response.status, response.read(_MOST_BYTES))
                raise Unreachable(f"{address} answered 503: {_why_unavailable(answer)}")
            if response.status != http.client.OK or kind != "text/event-stream":
                raise NoStream(
                    f"{address} answered {response.status} and no event stream: {NO_PAGE}"
                )
            for name, text in _parsed(response):
                data = read_object(text) if text is not None else None
                if name in KNOWN_EVENTS and (data is None or not _is_told(name, data)):
                    raise NoStream(
                        f"{address} sent an event that is not from a status page: {NO_PAGE}"
                    )
                if data is not None:
                    yield Event(name, data)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(f"{address}: {_in_words(error, silence_seconds)}") from None


def _why_unavailable(answer: HttpAnswer) -> str:
    told = answer.as_object() or {}
    # The page says it of its own streams; all else comes from what stands before it.
    if "watching" in str(told.get("detail")):
        return "too many are watching already"
    return BEHIND_GATE


class NoStream(UserError):  # named after the state
    """There is a service, but it has no such event stream."""

    def __init__(self, text: str) -> None:
        super().__init__(text, UNREACHABLE)


KNOWN_EVENTS = {"stage": "current", "state": "stage"}
"""The events that are shown, and which field of each names a stage."""


def _is_told(name: str, data: Mapping[str, object]) -> bool:
    return isinstance(data.get(KNOWN_EVENTS[name]), str)


def _parsed(response: http.client.HTTPResponse) -> Iterator[tuple[str, str | None]]:
    """The name of each event with its data; `None` for data that is too long."""
    name, data, size = "message", list[str](), 0
    while raw := response.readline(_MOST_LINE_BYTES + 1):
        size += len(raw)
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if size > _MOST_EVENT_BYTES:
            yield "state", None  # whatever it is called, it is none of a status page's
        if not line:
            yield name, "\n".join(data)
            name, data, size = "message", [], 0
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
