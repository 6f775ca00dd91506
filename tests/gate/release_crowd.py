"""What the real releases share: a pool of connections to a real Redis, and one of many clients."""

from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.exceptions import MaxConnectionsError

from tests.gate.light_clients import Want, get, post, websocket
from tests.gate.release_shapes import ANSWERS_ONCE, FOR_EVER, WEBSOCKET_SHAPES, PoolEmptyError

DEFAULT_BATCH = 32
_WELCOMES = ("/welcome_first", "/welcome_after_work")
_SPEAKS_AFTER_SECONDS = (0.0, 0.05, 0.2)


class RedisPool:
    """Connections to a real Redis. Each piece of work takes one for a while.

    Args:
        url: Of Redis.
        size: How many connections there may be.
        work_seconds: How long a piece of work takes.
        waits: Whether a handler waits for a connection; else one that is too many raises.
    """

    def __init__(self, url: str, size: int, work_seconds: float, *, waits: bool = False) -> None:
        self._work_seconds = work_seconds
        if waits:
            self._pool: ConnectionPool = BlockingConnectionPool.from_url(
                url, max_connections=size, timeout=None
            )
        else:
            self._pool = ConnectionPool.from_url(url, max_connections=size)
        self._redis = Redis(connection_pool=self._pool)

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[None]:
        try:
            # Redis waits for that long, and the connection is taken meanwhile.
            await self._redis.blpop(["nothing"], timeout=self._work_seconds)
        except MaxConnectionsError:
            raise PoolEmptyError from None
        yield

    async def aclose(self) -> None:
        await self._pool.disconnect()  # all that there is to close, in redis-py 5.0.0, too


def batch_for(path: str) -> int:
    """The slots: a handler with two tasks takes two connections."""
    return DEFAULT_BATCH // 2 if path == "/reads_apart" else DEFAULT_BATCH


def visit(
    port: int, path: str, number: int, back_seconds: float | None
) -> Coroutine[Any, Any, str]:
    """One of many: some wait before they speak, and some do not come back by `Retry-After`."""
    delay = _SPEAKS_AFTER_SECONDS[number % 3]
    back = back_seconds if number % 4 == 0 else None
    if path in WEBSOCKET_SHAPES:
        messages = 0 if path in FOR_EVER else 1 + number % 2
        answers = 1 if path in ANSWERS_ONCE else messages + (path in _WELCOMES)
        answers = 0 if path == "/silent" else answers
        return websocket(port, Want(path, messages, answers, delay, back))
    client = post if path == "/post" else get
    return client(port, Want(path, delay_seconds=delay, back_seconds=back))
