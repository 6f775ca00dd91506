"""The demo's chat: a WebSocket handler that needs a background task, as real services have them.

What a client sends goes to Redis, comes back through one subscription shared by all clients, and
from there to the client. Without the background task that listens to Redis nothing works.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import anyio
from anyio.abc import TaskStatus
from redis import Redis
from redis.asyncio import ConnectionPool
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from starlette.status import WS_1011_INTERNAL_ERROR
from starlette.websockets import WebSocket

_CHANNEL = "chat"
_PUBLISHERS = 100
"""Connections to publish with. One that is too many raises, as redis-py's pool does by default, and
its client is lost: the gate lets in no more at a time than that."""

_RECONNECT_SECONDS = 0.05
_BLIND_SLEEP_SECONDS = 0.5


class ListenerMissing(RuntimeError):  # it says the state
    """A client came while nothing listened to Redis for it."""


class Chat:
    """The handler and the background task.

    Args:
        url: The URL of Redis.
        settle_seconds: How long the background task needs, once Redis has answered it for the
            first time, until it is of use, as one that reads a history first.
        while_up: Makes a context that is entered exactly while the background task is of use.
    """

    def __init__(
        self,
        url: str,
        settle_seconds: float,
        while_up: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._url = url
        self._settle_seconds = settle_seconds
        self._while_up = while_up
        self._inboxes: dict[int, asyncio.Queue[str]] | None = None
        self._numbers = itertools.count()

    @asynccontextmanager
    async def connected(self) -> AsyncGenerator[None]:
        """The handler has connections to publish with inside."""
        # A pool's connections may be from before an outage: the second try gets a new one.
        pool = ConnectionPool.from_url(
            self._url, max_connections=_PUBLISHERS, retry=Retry(NoBackoff(), 1)
        )
        async with AsyncRedis(connection_pool=pool) as self._redis:
            try:
                yield
            finally:
                await pool.disconnect()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """The same, and the background task, which is started here and not waited for."""
        # A task that is cancelled until it ends: one `Task.cancel` may be lost in redis-py,
        # whose `asyncio.wait_for` swallows it before Python 3.12.
        async with self.connected(), anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_listening)
            yield
            tasks.cancel_scope.cancel()

    async def handle(self, websocket: WebSocket) -> None:
        """Echo what a client says, by way of Redis.

        Raises:
            ListenerMissing: When the background task is not up; the client sees 1011.
            RedisError: When Redis is lost meanwhile; the same.
        """
        await websocket.accept()
        try:
            await self._echo(websocket)
        except (ListenerMissing, RedisError):
            # Servers differ in what clients see when a handler raises: 1011, 1006 or even 1000.
            await websocket.close(WS_1011_INTERNAL_ERROR)
            raise

    async def _echo(self, websocket: WebSocket) -> None:
        if self._inboxes is None:
            raise ListenerMissing("the background task that listens to Redis is not up")
        number, inbox = next(self._numbers), asyncio.Queue[str]()
        inboxes = self._inboxes
        inboxes[number] = inbox
        try:
            async for text in websocket.iter_text():
                await self._redis.publish(_CHANNEL, json.dumps([number, text]))
                await websocket.send_text(await inbox.get())
        finally:
            inboxes.pop(number, None)

    async def _keep_listening(self) -> None:
        """What a `Task` does for whoever has an orchestrator."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                await self.listen()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def listen(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """The background task: pass on what Redis says, until the connection is lost.

        Raises:
            RedisError: When it is lost.
        """
        # It hears of a lost connection at once: whoever runs it tries again.
        redis = AsyncRedis.from_url(self._url, retry=Retry(NoBackoff(), 0))
        async with redis, redis.pubsub() as subscription:
            await subscription.subscribe(_CHANNEL)
            await asyncio.sleep(self._settle_seconds)
            self._settle_seconds = 0.0  # the history is read once; a reconnect has it already
            with self._while_up():
                self._inboxes = {}
                task_status.started()
                try:
                    async for message in subscription.listen():
                        self._deliver(message)
                finally:
                    self._inboxes = None

    def _deliver(self, message: dict[str, object]) -> None:
        data = message["data"]
        if message["type"] != "message" or not isinstance(data, bytes) or self._inboxes is None:
            return
        number, text = json.loads(data)
        if number in self._inboxes:
            self._inboxes[number].put_nowait(text)


def block_until_redis_answers(url: str) -> None:
    """The fix that this project replaces: nothing else in the process can run meanwhile."""
    with Redis.from_url(url, retry=None) as redis:
        while True:
            with contextlib.suppress(RedisError, OSError):
                redis.ping()
                break
            time.sleep(_BLIND_SLEEP_SECONDS)
    time.sleep(_BLIND_SLEEP_SECONDS)
