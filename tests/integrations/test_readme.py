"""What the README shows works as it stands there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import Stage
from tests.redis_server import RedisServer

README = Path(__file__).parent.parent.parent / "README.md"

pytestmark = pytest.mark.anyio


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # as redis-py's own
async def test_the_first_lines_become_ready_and_the_next_ones_keep_a_listener(
    redis: RedisServer,
) -> None:
    text = README.read_text(encoding="utf-8").replace("redis://localhost:6379/0", redis.url)
    gate, conditions = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(gate, names)  # noqa: S102  it is our own README
    app, startup = names["app"], names["startup"]
    async with app.router.lifespan_context(app):
        await startup.wait_for(Stage.READY, timeout_seconds=10)
    exec(conditions, names)  # noqa: S102  the README's own code
    startup = names["startup"]
    async with startup:
        await startup.wait_for(Stage.READY, timeout_seconds=30)
        assert startup.explain().conditions["chat-listener"].satisfied
        redis.kill()
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=30)
        redis.start()
        await startup.wait_for(Stage.READY, timeout_seconds=30)  # the listener is up again
