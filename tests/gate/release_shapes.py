"""What handlers do with a pool that raises when it is empty: the shapes that real ones have."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from itertools import count
from typing import Protocol

import anyio

from orchestrator._http.asgi_types import ASGIApp, Message, Receive, Scope, Send

INTERNAL_ERROR = 1011


class PoolEmptyError(Exception):
    """As redis-py's `MaxConnectionsError`."""


class Pool(Protocol):
    """What handlers work with."""

    def connection(self) -> AbstractAsyncContextManager[None]:
        """Do a piece of work with a connection of the pool."""
        ...


_handler: ContextVar[int] = ContextVar("_handler")
"""Which handler works, whichever of its tasks does."""


class CountedPool:
    """A pool without a server, of which a handler has one connection whatever its tasks do.

    Args:
        size: How many handlers can work at the same time.
        work: Takes its time.
    """

    def __init__(self, size: int, work: Callable[[], Awaitable[object]]) -> None:
        self._size = size
        self._work = work
        self._used: Counter[int] = Counter()
        self.most_used = 0
        self.failed = 0

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[None]:
        handler = _handler.get()
        if handler not in self._used and len(self._used) >= self._size:
            self.failed += 1
            raise PoolEmptyError
        self._used[handler] += 1
        self.most_used = max(self.most_used, len(self._used))
        try:
            await self._work()
            yield
        finally:
            self._used[handler] -= 1
            if not self._used[handler]:
                del self._used[handler]


class Shapes:
    """An application with a handler for each shape, by path. All serve a client with an answer.

    Args:
        pool: What they work with.
        pause: Waits for so many seconds.
    """

    def __init__(self, pool: Pool, pause: Callable[[float], Awaitable[object]]) -> None:
        self._pool = pool
        self._pause = pause
        self._numbers = count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _handler.set(next(self._numbers))
        if scope["type"] == "http":
            await HTTP_SHAPES[scope["path"]](self, receive, send)
            return
        try:
            await WEBSOCKET_SHAPES[scope["path"]](self, receive, send)
        except PoolEmptyError:
            await send({"type": "websocket.close", "code": INTERNAL_ERROR})

    async def _work(self) -> None:
        async with self._pool.connection():
            pass

    async def _answer(self, send: Send, text: str = "answer") -> None:
        await send({"type": "websocket.send", "text": text})

    async def _serve(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "websocket.receive":
            await self._work()
            await self._answer(send, message.get("text") or "answer")

    async def _accept(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})

    # -- WebSockets --------------------------------------------------------------------------------

    async def work_then_accept(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._work()
        await send({"type": "websocket.accept"})
        await self._serve(receive, send)

    async def accept_work_receive(self, receive: Receive, send: Send) -> None:
        await self._accept(receive, send)
        await self._work()
        await self._serve(receive, send)

    async def accept_receive_work(self, receive: Receive, send: Send) -> None:
        await self._accept(receive, send)
        await self._serve(receive, send)

    async def welcome_first(self, receive: Receive, send: Send) -> None:
        await self._accept(receive, send)
        await self._answer(send, "welcome")
        await self._serve(receive, send)

    async def welcome_after_work(self, receive: Receive, send: Send) -> None:
        await self._accept(receive, send)
        await self._work()
        await self._answer(send, "welcome")
        await self._serve(receive, send)

    async def push_only(self, receive: Receive, send: Send) -> None:
        await self._accept(receive, send)
        await self._work()
        while True:
            await self._answer(send)
            await self._pause(0.02)

    async def never_receives(self, receive: Receive, send: Send) -> None:
        await self._accept(receive, send)
        await self._work()
        await self._answer(send)
        await anyio.sleep_forever()

    async def silent(self, receive: Receive, send: Send) -> None:
        await self._accept(receive, send)
        await self._work()
        await anyio.sleep_forever()

    async def reads_apart(self, receive: Receive, send: Send) -> None:
        """One task reads and another writes, as in the patterns of most frameworks."""
        await self._accept(receive, send)
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                await self._serve(receive, send)
                tasks.cancel_scope.cancel()

            tasks.start_soon(read)
            await self._work()
            await anyio.sleep_forever()

    async def reads_ahead(self, receive: Receive, send: Send) -> None:
        """The framework reads into a queue, and the handler takes from there."""
        put, take = anyio.create_memory_object_stream[Message](10)

        async def read() -> None:
            while True:
                message = await receive()
                await put.send(message)
                if message["type"] == "websocket.disconnect":
                    return

        with put, take:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                await self.accept_receive_work(take.receive, send)
                tasks.cancel_scope.cancel()

    async def gives_up_waiting(self, receive: Receive, send: Send) -> None:
        """Stops waiting for a message again and again, and must lose none."""
        await self._accept(receive, send)
        while True:
            message: Message | None = None
            with anyio.move_on_after(0.001):
                message = await receive()
            if message is None:
                await self._pause(0.01)
            elif message["type"] == "websocket.disconnect":
                return
            else:
                await self._work()
                await self._answer(send, message.get("text") or "answer")

    # -- HTTP --------------------------------------------------------------------------------------

    async def get(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._work()
        await respond(send)

    async def get_without_receive(self, _: Receive, send: Send) -> None:
        await self._work()
        await respond(send)

    async def post(self, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            await self._work()
        await self._work()
        await respond(send)

    async def events(self, receive: Receive, send: Send) -> None:
        """A response that never ends."""
        await receive()
        await self._work()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"answer\n", "more_body": True})
            await self._pause(0.02)


async def respond(send: Send) -> None:
    headers = [(b"content-length", b"6")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"answer"})


Shape = Callable[[Shapes, Receive, Send], Awaitable[None]]

WEBSOCKET_SHAPES: dict[str, Shape] = {
    f"/{shape.__name__}": shape
    for shape in (
        Shapes.work_then_accept,
        Shapes.accept_work_receive,
        Shapes.accept_receive_work,
        Shapes.welcome_first,
        Shapes.welcome_after_work,
        Shapes.push_only,
        Shapes.never_receives,
        Shapes.reads_apart,
        Shapes.reads_ahead,
        Shapes.gives_up_waiting,
        Shapes.silent,
    )
}

HTTP_SHAPES: dict[str, Shape] = {
    f"/{shape.__name__}": shape
    for shape in (Shapes.get, Shapes.get_without_receive, Shapes.post, Shapes.events)
}

ANSWERS_EACH_MESSAGE = (
    "/work_then_accept",
    "/accept_work_receive",
    "/accept_receive_work",
    "/reads_apart",
    "/reads_ahead",
    "/gives_up_waiting",
)
"""WebSocket shapes of which a client gets one answer for each message, and nothing else."""

FOR_EVER = ("/push_only", "/never_receives", "/silent", "/events")
"""Those whose handlers neither receive nor end."""

__all__ = [
    "ANSWERS_EACH_MESSAGE",
    "FOR_EVER",
    "HTTP_SHAPES",
    "INTERNAL_ERROR",
    "WEBSOCKET_SHAPES",
    "ASGIApp",
    "CountedPool",
    "Pool",
    "PoolEmptyError",
    "Shapes",
]
