"""The ASGI application: three addresses, to be read and nothing else."""

import re
from collections.abc import Collection
from http import HTTPStatus

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._gate.health_answers import Workers
from orchestrator._hardening.arguments import require, wrong_type
from orchestrator._hardening.text import MOST_NAME_CHARACTERS, one_line
from orchestrator._http.asgi_types import ASGIApp, Header, Receive, Scope, Send, route_path
from orchestrator._http.hosts import AllowedHosts
from orchestrator._http.responses import answer_other, as_json, oversized, problem, respond
from orchestrator.web._history import History, attach
from orchestrator.web._origin import SAFE_HEADERS, is_foreign
from orchestrator.web._page import policy, render
from orchestrator.web._state import Gate, StateReader
from orchestrator.web._stream import EventStreams

_PAGE, _STATE, _EVENTS = "/", "/state", "/events"

_LINK = re.compile(r"(https?://|/(?!/))")


def web_app(
    startup: Orchestrator,
    *,
    gate: Gate | None = None,
    trace_url: str | None = None,
    title: str = "Service",
    max_streams: int = 16,
    allowed_hosts: Collection[str] | None = None,
    pod: Workers | None = None,
) -> ASGIApp:
    """An ASGI application that shows a start-up, and everything after it, in a browser.

    Example::

        app.mount("/startup", web_app(startup))

    `/` is the page, `/state` the same as JSON, and `/events` a stream of server-sent events. All of
    it can only be read, and only from its own origin. Nothing in it is secret, but it names what
    the service depends on, and whoever reaches it can read it: mount it where operators are.

    Make it before the orchestrator is entered, so that it sees the start-up from the beginning. The
    page should be seen while the service is not ready: behind a gate, pass its paths by with
    `ReadinessGate(bypass=[*HEALTH_PATHS, *web_paths("/startup")])`.

    Args:
        startup: The orchestrator.
        gate: The gate whose counts are shown, such as a `ReadinessGate`.
        trace_url: Where the start-up's trace can be seen: an address with `{trace_id}` in it, such
            as `https://jaeger.example/trace/{trace_id}`. It is shown once an observer knows the id,
            such as an `OpenTelemetryObserver`.
        title: The name of the service, for people.
        max_streams: How many browsers may watch at once; the next is told 503.
        allowed_hosts: The hosts that it answers to, such as `localhost:*`, `[::1]:8080` and
            `*.example.com`; a name without a port stands for every port. Without it, any page on
            the web that has its own name resolve to this machine can read along in the browser of
            whoever reaches both.
        pod: The workers of this service, such as the `Pod` of its health endpoints: the page says
            which of them it is from, and how the others stand.

    Raises:
        AlreadyStarted: When the orchestrator is entered already.
        TypeError: When an argument is of the wrong type.
        ValueError: When `trace_url`, `max_streams` or `allowed_hosts` cannot be used.
    """
    require(startup, Orchestrator, "startup", "write web_app(startup)")
    require(title, str, "title", "give the name of the service")
    require(max_streams, int, "max_streams", "give a whole number of 1 or more")
    if gate is not None and not all(hasattr(gate, name) for name in ("held", "counts", "closes")):
        raise wrong_type(gate, "gate", "a gate", "write gate=ReadinessGate(app, startup)")
    if trace_url is not None:
        require(trace_url, str, "trace_url", "give an address with {trace_id} in it")
    if trace_url is not None and ("{trace_id}" not in trace_url or not _LINK.match(trace_url)):
        raise ValueError(
            f"trace_url is {trace_url!r}; it must be an address of http, https or this server with"
            " {trace_id} in it"
        )
    if max_streams < 1:
        raise ValueError(f"max_streams is {max_streams!r}; it must be a whole number of 1 or more")
    hosts = AllowedHosts(allowed_hosts) if allowed_hosts is not None else None
    history = History()
    reader = StateReader(startup, history, gate, attach(startup, history), trace_url, pod)
    return _WebApp(
        render(one_line(title, MOST_NAME_CHARACTERS)),
        reader,
        EventStreams(startup, history, reader, max_streams),
        hosts,
    )


def web_paths(mounted_at: str = "/startup") -> tuple[str, ...]:
    """The paths that a page has which is mounted there, for a gate's `bypass`."""
    root = mounted_at.rstrip("/")
    return (root, *(root + path for path in (_PAGE, _STATE, _EVENTS)))


class _WebApp:
    def __init__(
        self, page: bytes, reader: StateReader, streams: EventStreams, hosts: AllowedHosts | None
    ) -> None:
        self._page = page
        self._hosts = hosts
        self._page_headers: list[Header] = [
            (b"content-security-policy", policy(page).encode()),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"x-frame-options", b"DENY"),
        ]
        self._reader = reader
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await answer_other(scope, receive, send)
            return
        path, method = route_path(scope), scope["method"]
        head = method == "HEAD"
        if too_large := oversized(scope["headers"]):
            await _refuse(send, too_large, "The request is too large.", head=head)
        elif self._hosts is not None and not self._hosts.allow(scope["headers"]):
            why = "This page does not answer to that host; its allowed_hosts are others."
            await _refuse(send, HTTPStatus.MISDIRECTED_REQUEST, why, head=head)
        elif path not in ("", _PAGE, _STATE, _EVENTS):
            await _refuse(send, HTTPStatus.NOT_FOUND, "There is no such page.", head=head)
        elif method not in ("GET", "HEAD"):
            allow = (b"allow", b"GET, HEAD")
            why = "It can only be read."
            await _refuse(send, HTTPStatus.METHOD_NOT_ALLOWED, why, allow, head=head)
        elif is_foreign(scope, may_be_linked=path in ("", _PAGE)):
            why = "It can only be read from its own origin."
            await _refuse(send, HTTPStatus.FORBIDDEN, why, head=head)
        elif path == _EVENTS and not head:
            await self._streams.serve(scope, receive, send)
        else:
            await self._answer(scope, path, send, head=head)

    async def _answer(self, scope: Scope, path: str, send: Send, *, head: bool) -> None:
        status, body, content_type = HTTPStatus.OK, b"", "text/html; charset=utf-8"
        headers: list[Header] = []
        match path:
            case "":
                # Relative, so that it is right behind a proxy that has taken a prefix away.
                status = HTTPStatus.TEMPORARY_REDIRECT
                name = scope["path"].rpartition("/")[2]
                headers = [(b"location", f"{name}/".encode())]
            case "/":
                body, headers = self._page, self._page_headers
            case "/state":
                body, content_type = as_json(self._reader.read()), "application/json"
            case _:
                content_type = "text/event-stream; charset=utf-8"
        await respond(
            send,
            status,
            body,
            content_type=content_type,
            headers=[*SAFE_HEADERS, *headers],
            head=head,
        )


async def _refuse(
    send: Send, status: HTTPStatus, why: str, *headers: Header, head: bool = False
) -> None:
    body = problem(status, why)
    await respond(send, status, body, headers=[*SAFE_HEADERS, *headers], head=head)
