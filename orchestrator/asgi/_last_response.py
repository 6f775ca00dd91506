"""In a drain, each response is the last one on its connection."""

from collections.abc import Awaitable
from functools import partial

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._http.asgi_types import Header, Message, Scope, Send


def last_on_its_connection(startup: Orchestrator, scope: Scope, send: Send) -> Send:
    """A `send` that tells the client to use another connection next time, while it drains.

    Clients and proxies keep connections open, and go on sending requests to an instance that no
    load balancer knows any more. HTTP/1 tells them by a header, which HTTP/2 forbids (RFC 9113,
    section 8.2.2): there the server ends the connection.
    """
    version = scope.get("http_version", "1.1")
    if version != "1.1" and not version.startswith("1"):  # the first question is quick
        return send

    return partial(_send_last, startup, send)  # in half the time of a closure


def _send_last(startup: Orchestrator, send: Send, message: Message) -> Awaitable[None]:
    if message["type"] == "http.response.start" and startup.draining:
        headers: list[Header] = [
            header for header in message.get("headers", ()) if header[0].lower() != _CONNECTION
        ]
        message = {**message, "headers": [*headers, (_CONNECTION, b"close")]}
    return send(message)


_CONNECTION = b"connection"
