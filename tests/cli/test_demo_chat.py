"""The demo's chat by itself."""

import contextlib
import gc
from collections.abc import Iterator

import anyio
import pytest
import redis

from orchestrator.cli.demo.chat import Chat
from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # as redis-py's own


# Before 6, redis-py leaves a connection that is cancelled half-way to the garbage collector.
LEAVES_STREAMS = int(redis.__version__.partition(".")[0]) < 6


@pytest.mark.anyio
@pytest.mark.filterwarnings(
    ("ignore" if LEAVES_STREAMS else "error") + "::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.parametrize("turns", range(40))
async def test_it_ends_whatever_its_background_task_is_just_doing(
    server: RedisServer, turns: int
) -> None:
    """Before Python 3.12 one `Task.cancel` is lost in redis-py after 6 turns, 7, 8, 10 ..."""
    chat = Chat(server.url, 0.0, contextlib.nullcontext)
    with anyio.fail_after(10):
        async with chat.running():
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
    if LEAVES_STREAMS:
        gc.collect()  # here, where it is no fault
