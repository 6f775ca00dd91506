"""What handlers do with a pool that raises when it is empty: the shapes that real ones have."""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
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


handler_number: ContextVar[int] = ContextVar("handler_number")
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
        handler = handler_number.get()
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
        self._all: list[Send] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler_number.set(next(self._numbers))
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

    async def polls(self, receive: Receive, send: Send) -> None:
        """Looks for a message again and again, as beside a queue of its own."""
        await self._accept(receive, send)
        while True:
            message: Message | None = None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._stop_waiting, tasks.cancel_scope)
                message = await receive()
                tasks.cancel_scope.cancel()
            if message is not None and message["type"] == "websocket.disconnect":
                return
            if message is not None:
                await self._work()
                await self._answer(send, message.get("text") or "answer")

    async def _stop_waiting(self, scope: anyio.CancelScope) -> None:
        await self._pause(0.1)
        scope.cancel()

    async def history_beside_reader(self, receive: Receive, send: Send) -> None:
        """A task listens, while the handler itself loads what it shows."""
        await self._accept(receive, send)
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                await self._serve(receive, send)
                tasks.cancel_scope.cancel()

            tasks.start_soon(read)
            await self._work()
            await self._answer(send, "history")
            await anyio.sleep_forever()

    async def answers_nothing(self, receive: Receive, send: Send) -> None:
        """A task reads what needs no answer, as that a user is typing."""
        await self._accept(receive, send)
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                while (await receive())["type"] == "websocket.receive":
                    await self._work()
                tasks.cancel_scope.cancel()

            await self._work()
            await self._answer(send, "welcome")
            tasks.start_soon(read)
            await anyio.sleep_forever()

    async def pushes_beside_reader(self, receive: Receive, send: Send) -> None:
        """A task works on what it reads, and the handler itself pushes meanwhile."""
        await self._accept(receive, send)
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                await self._serve(receive, send)
                tasks.cancel_scope.cancel()

            tasks.start_soon(read)
            while True:
                await self._pause(0.3)
                await self._answer(send, "news")

    async def receives_in_tasks(self, receive: Receive, send: Send) -> None:
        """Each `receive` has a task of its own, as in `asyncio.wait_for` on Python 3.11."""
        await self._accept(receive, send)
        messages: list[Message] = []

        async def receive_one() -> None:
            messages.append(await receive())

        while True:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(receive_one)
            message = messages.pop()
            if message["type"] == "websocket.disconnect":
                return
            await self._work()
            await self._answer(send, message.get("text") or "answer")

    async def broadcasts(self, receive: Receive, send: Send) -> None:
        """Each answer goes to all."""
        await self._accept(receive, send)
        self._all.append(send)
        try:
            while (message := await receive())["type"] == "websocket.receive":
                await self._work()
                for one in tuple(self._all):
                    with suppress(OSError):  # it has left
                        await self._answer(one, message.get("text") or "answer")
        finally:
            self._all.remove(send)

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

    async def streams(self, receive: Receive, send: Send) -> None:
        """The status is sent before the work, as with a body that is made on the way."""
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await self._work()
        await send({"type": "http.response.body", "body": b"answer"})

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
        Shapes.polls,
        Shapes.history_beside_reader,
        Shapes.answers_nothing,
        Shapes.pushes_beside_reader,
        Shapes.receives_in_tasks,
        Shapes.broadcasts,
    )
}

HTTP_SHAPES: dict[str, Shape] = {
    f"/{shape.__name__}": shape
    for shape in (
        Shapes.get,
        Shapes.get_without_receive,
        Shapes.post,
        Shapes.streams,
        Shapes.events,
    )
}

ANSWERS_EACH_MESSAGE = (
    "/work_then_accept",
    "/accept_work_receive",
    "/accept_receive_work",
    "/reads_apart",
    "/reads_ahead",
    "/gives_up_waiting",
    "/receives_in_tasks",
    "/polls",
)
"""WebSocket shapes of which a client gets one answer for each message, and nothing else."""

FOR_EVER = ("/push_only", "/never_receives", "/silent", "/events", "/history_beside_reader")
"""Those whose handlers neither receive nor end, unless their clients speak, which they do not."""

ANSWERS_ONCE = (*FOR_EVER, "/answers_nothing", "/pushes_beside_reader", "/broadcasts")
"""Those of which a client has what it came for with the first answer, whatever it sends."""

__all__ = [
    "ANSWERS_EACH_MESSAGE",
    "ANSWERS_ONCE",
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
