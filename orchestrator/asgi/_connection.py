"""Views of one connection: what a held client sent, and how it was closed."""

import contextlib
from collections.abc import Callable, Generator

import anyio
from anyio.abc import TaskGroup

from orchestrator._gate.hold_queue import Outcome, Ticket
from orchestrator._gate.open_sockets import OpenSockets
from orchestrator._gate.refusals import APPLICATION_ERROR, TRY_AGAIN_LATER
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator.asgi._refusal import close_try_again_later

_DEFAULT_CLOSE_CODE = 1000
"""The close code of a `websocket.close` that names none, by the ASGI specification."""

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


class CloseWatch:
    """An application whose WebSocket closes are reported, and that may be told to close them.

    Reported is what the application causes, and what the gate closes when the service becomes
    degraded: not the client's closes, and no refused handshakes.

    Args:
        app: The application.
        report: Called with the close code, or with `APPLICATION_ERROR`.
        open_sockets: Those to be closed when the service becomes degraded.
    """

    def __init__(
        self,
        app: ASGIApp,
        report: Callable[[int | str], None],
        open_sockets: OpenSockets | None = None,
    ) -> None:
        self._app = app
        self._report = report
        self._open_sockets = open_sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application on one WebSocket."""
        socket = _WatchedSocket(receive, send, self._report, self._open_sockets)
        try:
            await self._app(scope, socket.receive, socket.send)
        except Exception:
            if socket.open:
                self._report(APPLICATION_ERROR)
            elif socket.closed_by_gate:
                return  # the application stumbled over a close that it did not order
            raise
        finally:
            if self._open_sockets is not None:
                self._open_sockets.discard(socket.close_when_degraded)


class _WatchedSocket:
    """Knows whether a WebSocket is open, and reports the code with which it is closed."""

    __slots__ = (
        "_close_sent",
        "_inside",
        "_open_sockets",
        "_receive",
        "_report",
        "_send",
        "closed_by_gate",
        "open",
    )

    def __init__(
        self,
        receive: Receive,
        send: Send,
        report: Callable[[int | str], None],
        open_sockets: OpenSockets | None,
    ) -> None:
        self._receive, self._send = receive, send
        self._report = report
        self._open_sockets = open_sockets
        if open_sockets is not None:
            self._close_sent = anyio.Event()
            self._inside: set[anyio.CancelScope] = set()  # what waits for the server now
        self.open = False
        self.closed_by_gate = False

    async def receive(self) -> Message:
        message = await (
            self._receive() if self._open_sockets is None else self._receive_until_closed()
        )
        if message["type"] == "websocket.disconnect":
            self.open = False  # what the application raises from here on closes nothing
        return message

    async def send(self, message: Message) -> None:
        try:
            await (
                self._send(message)
                if self._open_sockets is None
                else self._send_until_closed(message)
            )
        except OSError:  # by the ASGI specification: the client has left
            self.open = False
            raise
        if message["type"] == "websocket.accept":
            self.open = True
            if self._open_sockets is not None:
                self._open_sockets.add(self.close_when_degraded)
        elif message["type"] == "websocket.close" and self.open:
            self.open = False
            self._report(message.get("code", _DEFAULT_CLOSE_CODE))

    async def _receive_until_closed(self) -> Message:
        if not self.closed_by_gate:
            with self._interruptible():
                return await self._receive()
        # An application that hears of the end returns, and some servers close then by themselves.
        await self._close_sent.wait()
        return {"type": "websocket.disconnect", "code": TRY_AGAIN_LATER}

    async def _send_until_closed(self, message: Message) -> None:
        if not self.closed_by_gate:
            with self._interruptible():
                return await self._send(message)
        await self._close_sent.wait()
        # As the ASGI specification has it for a client that has left.
        raise OSError("the WebSocket was closed with 1013: the service is degraded")

    @contextlib.contextmanager
    def _interruptible(self) -> Generator[None]:
        with anyio.CancelScope() as scope:
            self._inside.add(scope)
            try:
                yield
            finally:
                self._inside.discard(scope)

    async def close_when_degraded(self) -> None:
        """Close it, unless its client takes nothing; the application's part ends either way."""
        if not self.open:
            return
        self.open = False
        self.closed_by_gate = True
        for scope in self._inside:
            # A client that reads nothing blocks a `send` for ever, and granian sends nothing while
            # the application receives.
            scope.cancel()
        try:
            await close_try_again_later(self._send, "The service is degraded.")
            self._report(TRY_AGAIN_LATER)
        finally:
            self._close_sent.set()
