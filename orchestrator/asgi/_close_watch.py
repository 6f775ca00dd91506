"""WebSockets whose closes are reported, and that the gate can close."""

from asyncio import current_task
from collections.abc import Callable

import anyio

from orchestrator._gate.open_sockets import Closing, OpenSockets
from orchestrator._gate.refusals import APPLICATION_ERROR
from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send
from orchestrator._runtime.interruptible import Interruptible, TasksInside, interruptible

_DEFAULT_CLOSE_CODE = 1000
"""The close code of a `websocket.close` that names none, by the ASGI specification."""


class CloseWatch:
    """An application whose WebSocket closes are reported, and that can be made to close them.

    Reported is what the application causes, and what the gate closes when the service becomes
    degraded, or ends: not the client's closes, and no refused handshakes.

    Args:
        app: The application.
        report: Called with the close code, or with `APPLICATION_ERROR`.
        open_sockets: Those that the gate closes.
    """

    def __init__(
        self,
        app: ASGIApp,
        report: Callable[[int | str], None],
        open_sockets: OpenSockets,
    ) -> None:
        self._app = app
        self._report = report
        self._open_sockets = open_sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application on one WebSocket."""
        waiting = interruptible()  # for the server
        kind = _OnAsyncio if isinstance(waiting, TasksInside) else _WatchedSocket
        socket = kind(receive, send, self._report, self._open_sockets, waiting)
        try:
            await self._app(scope, socket.receive, socket.send)
        except Exception:
            if socket.open:
                self._report(APPLICATION_ERROR)
            elif socket.closing is not None:
                return  # the application stumbled over a close that it did not order
            raise
        finally:
            self._open_sockets.discard(socket)


class _WatchedSocket:
    """Knows whether a WebSocket is open, and reports the code with which it is closed.

    Attributes:
        open: Whether it was accepted, and neither side has closed it.
        closing: How the gate has closed it; `None` while it has not.
    """

    __slots__ = (
        "_close_sent",
        "_open_sockets",
        "_receive",
        "_report",
        "_send",
        "_waiting",
        "closing",
        "open",
    )

    def __init__(
        self,
        receive: Receive,
        send: Send,
        report: Callable[[int | str], None],
        open_sockets: OpenSockets,
        waiting: Interruptible,
    ) -> None:
        self._receive, self._send = receive, send
        self._report = report
        self._open_sockets = open_sockets
        self._waiting = waiting
        self._close_sent: anyio.Event | None = None
        self.open = False
        self.closing: Closing | None = None

    async def receive(self) -> Message:
        if self.closing is None:
            with self._waiting:
                message = await self._receive()
                if message["type"] == "websocket.disconnect":
                    self.open = False  # what the application raises from here on closes nothing
                return message
        # An application that hears of the end returns, and some servers close then by themselves.
        return await self._disconnect()

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if self.closing is None:
            try:
                with self._waiting:
                    await self._send(message)
                    self._sent(kind, message)
                    return
            except OSError:  # by the ASGI specification: the client has left
                self.open = False
                raise
        await self._not_sent(kind)

    async def _not_sent(self, kind: str) -> None:
        closed = await self._disconnect()
        if kind != "websocket.close":  # closing twice is no error where the first was not its own
            # As the ASGI specification has it for a client that has left.
            raise OSError(f"the WebSocket was closed with {closed['code']}: {closed['reason']}")

    def _sent(self, kind: str, message: Message) -> None:
        if kind == "websocket.accept":
            self.open = True
            self._open_sockets.add(self)
        elif kind == "websocket.close" and self.open:
            self.open = False
            self._report(message.get("code", _DEFAULT_CLOSE_CODE))

    async def _disconnect(self) -> Message:
        """What the application receives once the gate has closed."""
        if self._close_sent is not None:
            await self._close_sent.wait()
        code, _, reason = self.closing or (_DEFAULT_CLOSE_CODE, 0, "")
        return {"type": "websocket.disconnect", "code": code, "reason": reason}

    async def close_by_gate(self, closing: Closing) -> None:
        """Close it, unless its client takes nothing; the application's part ends either way."""
        if not self.open:
            return
        self.open = False
        self.closing, self._close_sent = closing, anyio.Event()
        # A client that reads nothing blocks a `send` for ever, and granian sends nothing while the
        # application receives.
        self._waiting.interrupt()
        try:
            await close_with(self._send, closing)
            self._report(closing.code)
        finally:
            self._close_sent.set()


class _OnAsyncio(_WatchedSocket):
    """The same with what `with self._waiting` does written out: it runs for every message."""

    __slots__ = ()
    _waiting: TasksInside

    async def receive(self) -> Message:
        if self.closing is None:
            task, waiting = current_task(), self._waiting
            waiting.inside.append(task)
            try:
                message = await self._receive()
            except BaseException as error:
                if not waiting.left(task, type(error)):
                    raise
            else:
                if waiting.interrupted is None:
                    waiting.inside.remove(task)
                else:
                    waiting.left(task)
                if message["type"] == "websocket.disconnect":
                    self.open = False
                return message
        return await self._disconnect()

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if self.closing is None:
            task, waiting = current_task(), self._waiting
            waiting.inside.append(task)
            try:
                await self._send(message)
            except BaseException as error:
                if not waiting.left(task, type(error)):
                    if isinstance(error, OSError):
                        self.open = False
                    raise
            else:
                if waiting.interrupted is None:
                    waiting.inside.remove(task)
                else:
                    waiting.left(task)
                if kind != "websocket.send":
                    self._sent(kind, message)
                return
        await self._not_sent(kind)


async def close_with(send: Send, closing: Closing) -> None:
    """Close an open WebSocket, with the private code where the server forbids the other."""
    close = {"type": "websocket.close", "reason": closing.reason}
    try:
        await send({**close, "code": closing.code})
    except OSError:  # by the ASGI specification: the client has left
        raise
    except Exception:  # autobahn's own, for a code that it does not let pass
        await send({**close, "code": closing.private_code})
