"""Ways to ask a Redis whether it answers, fresh and over an open connection."""

import queue
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from typing import Any, cast  # Any: redis-py's options differ in type
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
import redis
import redis.asyncio

from orchestrator._probing.question import _loop_caller
from orchestrator.redis import RedisProbe

Ask = Callable[[], Awaitable[object]]
"""Asks once."""

Fresh = Callable[[str], Awaitable[None]]
"""Connects to a URL, asks once, and closes."""

Warm = Callable[[str], "AsyncOpen"]
"""Connects to a URL, and gives what asks over that connection."""

AsyncOpen = Any  # an async context manager of `Ask`; its exact type is contextlib's own

LEAN: dict[str, Any] = {"driver_info": None, "protocol": 2}
"""What makes redis-py send nothing that was not asked for."""

OURS = "ours"
RAW = "raw socket"
REDIS_ASYNCIO = "redis.asyncio"
REDIS_THREAD = "redis-py in a thread"


async def ours_fresh(url: str) -> None:
    probe = RedisProbe(url)
    result = await probe.attempt(5.0)
    assert result.failure is None, result.failure
    await probe.aclose()


async def redis_asyncio_fresh(url: str, **options: Any) -> None:  # redis-py's
    client = redis.asyncio.Redis.from_url(url, **options)
    await client.ping()
    await client.aclose()


def redis_sync_fresh(url: str, **options: Any) -> None:  # redis-py's
    client = redis.Redis.from_url(url, **options)
    client.ping()
    client.close()


async def redis_thread_fresh(url: str, **options: Any) -> None:  # redis-py's
    await anyio.to_thread.run_sync(partial(redis_sync_fresh, url, **options))


async def coredis_fresh(url: str) -> None:
    coredis: Any = import_module("coredis")  # untyped: types are checked without the extra

    async with coredis.Redis.from_url(url) as client:
        await client.ping()


async def raw_fresh(url: str) -> None:
    with connected(url) as sock:
        sock.sendall(b"PING\r\n")
        sock.recv(64)


def connected(url: str) -> socket.socket:
    """A plain socket to Redis."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port))


FRESH: dict[str, dict[str, Fresh]] = {
    "asyncio": {
        OURS: ours_fresh,
        REDIS_ASYNCIO: redis_asyncio_fresh,
        f"{REDIS_ASYNCIO}, lean": partial(redis_asyncio_fresh, **LEAN),
        "coredis": coredis_fresh,
        RAW: raw_fresh,
    },
    "trio": {
        OURS: ours_fresh,
        REDIS_THREAD: redis_thread_fresh,
        f"{REDIS_THREAD}, lean": partial(redis_thread_fresh, **LEAN),
        "coredis": coredis_fresh,
        RAW: raw_fresh,
    },
}


@asynccontextmanager
async def ours_warm(url: str) -> AsyncIterator[Ask]:
    probe = RedisProbe(url)

    async def ask() -> None:
        assert (await probe.attempt(5.0)).failure is None

    yield ask
    await probe.aclose()


@asynccontextmanager
async def ours_kept(url: str) -> AsyncIterator[Ask]:
    """Connects anew for each attempt, in one thread, as a service does that lost its connection."""
    probe = RedisProbe(url)

    async def ask() -> None:
        result = await probe.attempt(5.0)
        assert result.failure is None, result.failure
        probe._worker.session.close()  # the thread is parked, and looks at it with the next one

    yield ask
    await probe.aclose()


@asynccontextmanager
async def redis_asyncio_warm(url: str) -> AsyncIterator[Ask]:
    async with redis.asyncio.Redis.from_url(url) as client:
        yield cast("Ask", client.ping)


@asynccontextmanager
async def redis_thread_warm(url: str) -> AsyncIterator[Ask]:
    with redis.Redis.from_url(url) as client:
        yield partial(anyio.to_thread.run_sync, client.ping)


@asynccontextmanager
async def redis_sync_warm(url: str) -> AsyncIterator[Ask]:
    """It blocks the event loop, and so serves as a part of the floor only."""
    with redis.Redis.from_url(url) as client:

        async def ask() -> None:
            client.ping()

        yield ask


@asynccontextmanager
async def coredis_warm(url: str) -> AsyncIterator[Ask]:
    coredis: Any = import_module("coredis")  # untyped: types are checked without the extra

    async with coredis.Redis.from_url(url) as client:
        yield client.ping


@asynccontextmanager
async def hop_warm(_url: str) -> AsyncIterator[Ask]:
    """To a thread that waits, and back, with nothing done there."""
    asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
    call_on_loop = _loop_caller()

    def serve() -> None:
        while answer := asked.get():
            call_on_loop(answer)

    async def ask() -> None:
        event = anyio.Event()
        asked.put(event.set)
        await event.wait()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield ask
    asked.put(None)
    thread.join()


SYNC = "redis-py, sync"
HOP = "thread hop"

WARM: dict[str, dict[str, Warm]] = {
    "asyncio": {
        OURS: ours_warm,
        REDIS_ASYNCIO: redis_asyncio_warm,
        REDIS_THREAD: redis_thread_warm,
        "coredis": coredis_warm,
        SYNC: redis_sync_warm,
        HOP: hop_warm,
    },
    "trio": {
        OURS: ours_warm,
        REDIS_THREAD: redis_thread_warm,
        "coredis": coredis_warm,
        SYNC: redis_sync_warm,
        HOP: hop_warm,
    },
}


async def time_fresh(fresh: Fresh, url: str, number: int) -> float:
    """Microseconds of one."""
    began = time.perf_counter()
    for _ in range(number):
        await fresh(url)
    return (time.perf_counter() - began) / number * 1e6


async def time_warm(warm: Warm, url: str, number: int) -> float:
    """Microseconds of one."""
    async with warm(url) as ask:
        for _ in range(number // 10 + 1):
            await ask()
        began = time.perf_counter()
        for _ in range(number):
            await ask()
        return (time.perf_counter() - began) / number * 1e6
