"""What the application's own connections do after an outage, on a real Redis."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import anyio
import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.redis_server import RedisServer

CONNECTIONS, COMMANDS = 7, 10


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # as redis-py's own


async def lost_after_an_outage(server: RedisServer, retries: int) -> int:
    """How many commands fail at once after Redis was away, on a pool that was in use before."""
    client = Redis.from_url(server.url, retry=Retry(NoBackoff(), retries))

    async def fails() -> bool:
        try:
            await client.ping()
        except RedisConnectionError:
            return True
        return False

    try:
        async with AsyncExitStack() as taken:  # at the same time, so each is one of its own
            for _ in range(CONNECTIONS):
                await (await taken.enter_async_context(client.client())).ping()
        server.kill()
        server.start()
        await anyio.sleep(0.05)  # the connections see that they are closed
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(fails()) for _ in range(COMMANDS)]
        return sum(one.result() for one in asked)
    finally:
        await client.connection_pool.disconnect()  # redis-py 5.0.0 has no aclose


@pytest.mark.anyio
async def test_with_one_retry_no_command_is_lost_on_a_connection_from_before_an_outage(
    server: RedisServer,
) -> None:
    version = int(redis.__version__.partition(".")[0])
    if version < 6:
        pytest.skip("before redis-py 6, a client retries only what retry_on_error names")
    assert await lost_after_an_outage(server, retries=1) == 0
    if version >= 8:  # older versions looked before they used one
        # In newer Pythons a read of a closed connection fails at once, and the next command has it.
        assert 0 < await lost_after_an_outage(server, retries=0) <= CONNECTIONS
