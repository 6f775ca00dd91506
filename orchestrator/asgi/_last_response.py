"""In a drain, each response is the last one on its connection.

Clients and proxies keep connections open, and go on sending requests to an instance that no load
balancer knows any more. HTTP/1 tells them by a header, which HTTP/2 forbids (RFC 9113, section
8.2.2): there the server ends the connection.

Few of all requests are under way when a drain begins. So in a ready service each `send` is wrapped
in what costs next to nothing, a `partial` that adds no arguments; and when a drain begins, those
under way get a function that adds the header.
"""

from collections.abc import Awaitable, Mapping
from functools import partial

from orchestrator._core.orchestrator import Orchestrator
from orchestrator._http.asgi_types import Header, Message, Scope, Send

_CONNECTION = b"connection"


def last_on_its_connection(startup: Orchestrator, scope: Scope, send: Send) -> Send:
    """A `send` that tells the client to use another connection next time, if it drains by then."""
    return partial(_send_last_in_drain, startup, send) if _has_header(scope) else send


class ResponsesUnderWay:
    """Takes part in drains: what is under way by then is answered as `last_on_its_connection`.

    Args:
        startup: The start-up that may drain.
        requests: Each request's `send` in a `partial` that adds no arguments, and its scope.

    Attributes:
        inside: 0, since others count the requests.
        awaits: There is nothing to wait for.
    """

    inside = 0
    awaits = False

    def __init__(
        self, startup: Orchestrator, requests: Mapping[object, Mapping[str, object]]
    ) -> None:
        self._requests = requests
        startup.drain_with(self)

    async def drain_announced(self) -> None:
        """Have all of them answered so."""
        for send, scope in self._requests.items():
            if isinstance(send, partial) and send.func is not _send_last and _has_header(scope):
                # A `partial` of a `partial`, which is what CORS middleware hands over, takes its
                # function, arguments and keywords over.
                handed_over: Send = partial(send.func, *send.args, **send.keywords)
                # What `partial` is unpickled with: these three, and attributes of its own.
                send.__setstate__((_send_last, (handed_over,), {}, None))  # type: ignore[attr-defined]  # typeshed lacks it

    async def wind_down(self, _: float) -> None:
        """There is nothing more to do."""


def _has_header(scope: Mapping[str, object]) -> bool:
    return str(scope.get("http_version", "1.1")).startswith("1")


def _send_last_in_drain(startup: Orchestrator, send: Send, message: Message) -> Awaitable[None]:
    return _send_last(send, message) if startup.draining else send(message)


def _send_last(send: Send, message: Message) -> Awaitable[None]:
    if message["type"] == "http.response.start":
        headers: list[Header] = [
            header for header in message.get("headers", ()) if header[0].lower() != _CONNECTION
        ]
        message = {**message, "headers": [*headers, (_CONNECTION, b"close")]}
    return send(message)
