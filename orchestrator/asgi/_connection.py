"""What a held client sent."""

import anyio
from anyio.abc import TaskGroup

from orchestrator._gate.hold_queue import Outcome, Ticket
from orchestrator._http.asgi_types import Message, Receive, Scope

KEPT_BYTES = 64 * 1024
"""How much of a held request's body is read at most, so that its client's leaving is noticed."""

_MESSAGE_BYTES = 256
"""About what a message takes besides its body: a body may come one byte at a time."""


class Inbox:
    """What a held client sends. The application gets all of it later, from a `Passage`.

    A `receive` that waits is not simply cancelled when the request is let in: middleware takes a
    few turns of the event loop to pass a message on (Starlette's `BaseHTTPMiddleware` does), and a
    part of an upload that arrives in between would be lost. So it goes on in `reading`, beside the
    application, and the application gets what it brings. A request that can send nothing but its
    end needs none of that: the server tells of an end as often as it is asked.

    Args:
        receive: The server's `receive`.
        reading: Where a `receive` of an upload may go on; `None` for what sends no body.

    Attributes:
        kept: The messages so far.
        error: What `receive` raised, if it did.
    """

    def __init__(self, receive: Receive, reading: TaskGroup | None = None) -> None:
        self._receive = receive
        self._reading = reading
        self.kept: list[Message] = []  # mostly one: a deque would take ten times the memory
        self.error: Exception | None = None
        self._receives = False
        self._arrived: anyio.Event | None = None

    async def watch(self, ticket: Ticket) -> None:
        """Keep what arrives, and notice when the client leaves, until it is decided.

        It may be cancelled when it is `at_rest`.
        """
        if self._reading is None:
            await self._read(ticket)
        else:
            self._reading.start_soon(self._read, ticket)

    async def _read(self, ticket: Ticket) -> None:
        size = 0
        # A bounded part of an upload is read and kept. The rest stays with the server, whose
        # buffers are bounded, at the price of not noticing when this client leaves.
        while size < KEPT_BYTES and ticket.outcome is None:
            self._receives = True
            try:
                message = await self._receive()
            except Exception as error:  # raised again where the request is handled
                self.error = error
                ticket.decide(Outcome.LEFT)
                return
            finally:
                self._receives = False
                if self._arrived is not None:
                    self._arrived.set()
            self.kept.append(message)
            if message["type"] in ("http.disconnect", "websocket.disconnect"):
                ticket.decide(Outcome.LEFT)
                return
            if message.get("more_body", False):
                size += len(message.get("body", b"")) + _MESSAGE_BYTES

    async def at_rest(self) -> None:
        """Return when cancelling `watch` loses no message; called once it is decided."""
        if self._reading is None and self._receives and not self.kept:
            # The first message is there already, or the request can do nothing without it.
            await self._next()

    async def receive(self) -> Message:
        """The server's `receive`, after what is being read already."""
        if self._receives:
            await self._next()
        if self.kept:
            return self.kept.pop(0)
        if self.error is not None:
            raise self.error
        return await self._receive()

    async def _next(self) -> None:
        if self._arrived is None:
            self._arrived = anyio.Event()
        await self._arrived.wait()

    async def may_answer(self, scope: Scope) -> bool:
        """Whether a refusal can be sent: a WebSocket's first message must be received before."""
        if scope["type"] != "websocket":
            return True
        if not self.kept:
            self.kept.append(await self._receive())
        return bool(self.kept[-1]["type"] != "websocket.disconnect")


def may_have_body(scope: Scope) -> bool:
    """Whether the client of an HTTP request may send a body; in HTTP/1 its headers say so."""
    if scope.get("method", "GET") not in ("GET", "HEAD"):
        return True
    return any(
        name in (b"content-length", b"transfer-encoding") for name, _ in scope.get("headers", ())
    )
