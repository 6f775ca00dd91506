"""A request on its way through the turnstile: what its handler does, as seen from outside."""

from collections.abc import Awaitable

from orchestrator._gate.visit import Visit
from orchestrator._http.asgi_types import Message, Receive, Send


class Passage:
    """The `receive` and `send` of a request that was held, or let in while `ready` is young.

    The handler runs inside of this context manager.

    It reports to its visit what the handler does. Once that is over, and the handler has got what
    was kept for it, both hand over what the server's own callables return, and nothing else is kept
    alive: a WebSocket may stay open for days.

    Args:
        visit: Where slots are asked for; `None` where none are needed.
        kept: Messages that arrived while the request was held; the first is handed over with the
            slot that the request was let in with.
        receive: The server's `receive`.
        send: The server's `send`.
        uploads: Whether it is an HTTP request with a body.
    """

    __slots__ = ("_can_rest", "_kept", "_receive", "_send", "_visit")

    def __init__(
        self,
        visit: Visit | None,
        kept: list[Message],
        receive: Receive,
        send: Send,
        *,
        uploads: bool,
    ) -> None:
        self._visit = visit
        self._kept: list[Message] | None = kept
        self._receive, self._send = receive, send
        # A WebSocket's handler may wait for messages once it has accepted, and that of an upload
        # for the body. Before and after, `receive` only listens for the client's leaving.
        self._can_rest = uploads and not kept

    def receive(self) -> Awaitable[Message]:
        """The next message, once there is a slot to work on it."""
        return self._receive() if self._kept is None else self._receive_in_turn()

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on, and report it."""
        return self._send(message) if self._visit is None else self._send_and_report(message)

    def __enter__(self) -> None:
        """The handler begins."""

    def __exit__(self, _kind: object, error: BaseException | None, *_traceback: object) -> None:
        """The handler has ended, or raised."""
        if self._visit is not None:
            if isinstance(error, Exception):
                self._visit.failed()
            self._visit.leave()

    async def _receive_in_turn(self) -> Message:
        while (kept := self._kept) is not None:
            visit = self._visit
            if not kept and (visit is None or visit.over):
                self._visit = self._kept = None
                break
            if visit is not None and self._can_rest:
                visit.waits()
            if not kept:
                # Kept until it is handed over: a handler may stop waiting at any moment.
                kept.append(await self._receive())
            paced = visit if self._can_rest else None
            if paced is not None:
                await paced.turn()
            if not kept:
                continue  # another task, which waits beside this one, got it
            message = kept.pop(0)
            if visit is not None and message["type"] in ("http.disconnect", "websocket.disconnect"):
                visit.client_left()
            if paced is not None:
                paced.handed()
            if message["type"] == "http.request":
                self._can_rest = bool(message.get("more_body", False))
            return message
        return await self._receive()

    async def _send_and_report(self, message: Message) -> None:
        visit = self._visit
        try:
            await self._send(message)
        except OSError:  # by the ASGI specification
            if visit is not None:
                visit.client_left()
            raise
        if visit is None:
            return
        if visit.over:
            self._visit = None
        elif message["type"] == "websocket.accept":
            self._can_rest = True
            visit.accepted()
        else:
            visit.sent()
