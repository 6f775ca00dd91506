"""An ASGI application with three addresses, to be read and nothing else."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from orchestrator._http.asgi_types import Header, Receive, Scope, Send, route_path
from orchestrator._http.hosts import AllowedHosts
from orchestrator._http.responses import answer_other, as_json, oversized, problem, respond
from orchestrator.web._origin import SAFE_HEADERS, is_foreign
from orchestrator.web._page import policy

PATHS = _PAGE, _STATE, _EVENTS = "/", "/state", "/events"


class ReadOnlyApp:
    """A page, its state as JSON, and a stream of its events.

    Args:
        page: The page.
        read_state: Reads the state.
        serve_events: Answers a request for the stream.
        hosts: The hosts that it answers to; `None` for all.
    """

    def __init__(
        self,
        page: bytes,
        read_state: Callable[[], Awaitable[Mapping[str, object]]],
        serve_events: Callable[[Scope, Receive, Send], Awaitable[None]],
        hosts: AllowedHosts | None,
    ) -> None:
        self._page = page
        self._hosts = hosts
        self._page_headers: list[Header] = [
            (b"content-security-policy", policy(page).encode()),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"x-frame-options", b"DENY"),
        ]
        self._read_state = read_state
        self._serve_events = serve_events

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
        elif path not in ("", *PATHS):
            await _refuse(send, HTTPStatus.NOT_FOUND, "There is no such page.", head=head)
        elif method not in ("GET", "HEAD"):
            allow = (b"allow", b"GET, HEAD")
            why = "It can only be read."
            await _refuse(send, HTTPStatus.METHOD_NOT_ALLOWED, why, allow, head=head)
        elif is_foreign(scope, may_be_linked=path in ("", _PAGE)):
            why = "It can only be read from its own origin."
            await _refuse(send, HTTPStatus.FORBIDDEN, why, head=head)
        elif path == _EVENTS and not head:
            await self._serve_events(scope, receive, send)
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
                body, content_type = as_json(await self._read_state()), "application/json"
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
