"""A crowd of clients of one gate, in virtual time. The pool is as large as the slots."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import anyio
import anyio.abc

from orchestrator._http.asgi_types import Message, Receive, Scope, Send
from orchestrator.asgi import ReadinessGate
from orchestrator.testing import ManualClock
from tests.asgi.gate_support import LEAVE, Caller, Startup, http_scope, websocket_scope
from tests.gate.release_shapes import (
    ANSWERS_EACH_MESSAGE,
    ANSWERS_ONCE,
    FOR_EVER,
    HTTP_SHAPES,
    CountedPool,
    Shapes,
)

IN_TIME_SECONDS = 60.0
"""More than any crowd here needs: a client that has no answer by then is starving."""


@dataclass
class Client:
    """One client, which comes back when it is refused."""

    caller: Caller
    messages: int
    at_once: bool
    left: bool = False
    answers: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return str(self.caller.scope["path"])

    @property
    def done(self) -> bool:
        if self.path in HTTP_SHAPES:
            return b"answer" in self.caller.body
        if self.path == "/silent":
            return bool(self.caller.sent)
        if self.path in ("/pushes_beside_reader", "/broadcasts"):  # there are other answers too
            return all(str(number) in self.answers for number in range(self.messages))
        return len(self.answers) >= self.expected

    @property
    def expected(self) -> int:
        welcomes = self.path in ("/welcome_first", "/welcome_after_work")
        return 1 if self.path in ANSWERS_ONCE else self.messages + welcomes

    def say(self) -> None:
        """What the client sends: all of it at once, or the next message after each answer."""
        said = len(self.answers) if not self.at_once else 0
        until = self.messages if self.at_once else min(said + 1, self.messages)
        for number in range(said, until):
            self.caller.give({"type": "websocket.receive", "text": str(number)})

    def leave(self) -> None:
        self.left = True
        self.caller.give(LEAVE)


class Crowd:
    """A gate, an application with a pool as large as the slots, and the clients."""

    def __init__(self, slots: int, work_seconds: float, max_held: int) -> None:
        self.clock = ManualClock()
        self.pool = CountedPool(slots, lambda: self.pause(work_seconds))
        self.entered: list[int] = []
        self.clients: list[Client] = []
        self._shapes = Shapes(self.pool, self.pause)
        self._numbers = count()
        self._max_held = max_held
        self._slots = slots

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Startup]:
        async with Startup() as startup, anyio.create_task_group() as self._tasks:
            self.gate = ReadinessGate(
                self._app,
                startup,
                release_batch=self._slots,
                max_held=self._max_held,
                hold_seconds=2 * IN_TIME_SECONDS,
                clock=self.clock,
            )
            yield startup
            self._tasks.cancel_scope.cancel()

    async def pause(self, seconds: float) -> None:
        with self.clock.cancel_at(self.clock.now() + seconds):
            await anyio.sleep_forever()

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.entered.append(scope["number"])
        await self._shapes(scope, receive, send)

    @property
    def releases(self) -> bool:
        """Whether the release is not over yet, from when on the law no longer holds."""
        return not self.gate._startup.ready or self.gate._admission.turnstile.young

    def arrive(self, path: str, messages: int = 1, *, at_once: bool = True) -> Client:
        scope = http_scope(path) if path in HTTP_SHAPES else websocket_scope(path)
        scope["number"] = next(self._numbers)
        client = Client(Caller(self.gate, scope), 0 if path in FOR_EVER else messages, at_once)
        self.clients.append(client)
        self._tasks.start_soon(self._visit, client)
        return client

    async def _visit(self, client: Client) -> None:
        caller = client.caller
        while not client.left:
            send = caller.send

            async def noted(message: Message, send: Send = send) -> None:
                await send(message)
                kind = message["type"]
                if kind == "websocket.send":
                    client.answers.append(message["text"])
                if kind == "websocket.accept" or (kind == "websocket.send" and not client.at_once):
                    client.say()

            try:
                await caller.app(caller.scope, caller.receive, noted)
            finally:
                caller.done.set()
            if caller.status != 503:
                return
            await self.pause(float(caller.headers["retry-after"]))
            client.caller = caller = Caller(self.gate, caller.scope)

    async def serve_all(self) -> None:
        """Let time pass until all have what they came for."""
        until = self.clock.now() + IN_TIME_SECONDS
        while any(not (client.left or client.done) for client in self.clients):
            assert self.clock.now() < until, [
                (client.path, client.caller.sent) for client in self.clients if not client.done
            ]
            await self.clock.advance(0.05)


def assert_lost_none(crowd: Crowd) -> None:
    assert crowd.pool.failed == 0
    for client in crowd.clients:
        if client.path in ANSWERS_EACH_MESSAGE and not client.left:
            assert client.answers == [str(number) for number in range(client.messages)]
