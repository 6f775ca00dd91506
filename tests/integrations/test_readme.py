"""What the README shows works as it stands there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import Stage
from tests.redis_server import RedisServer

README = Path(__file__).parent.parent.parent / "README.md"

pytestmark = pytest.mark.anyio


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_the_first_lines_become_ready_and_the_next_ones_wait_for_the_listener(
    redis: RedisServer,
) -> None:
    text = README.read_text(encoding="utf-8").replace("redis://localhost:6379/0", redis.url)
    gate, condition = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(gate, names)  # noqa: S102  it is our own README
    app, startup = names["app"], names["startup"]
    async with app.router.lifespan_context(app):
        await startup.wait_for(Stage.READY, timeout_seconds=10)
    exec(condition, names)  # noqa: S102
    startup = names["startup"]
    async with startup, anyio.create_task_group() as tasks:
        await startup.wait_for(Stage.GRACE, timeout_seconds=10)
        send, messages = anyio.create_memory_object_stream[str]()
        with send:
            tasks.start_soon(names["listen"], messages)
            await startup.wait_for(Stage.READY, timeout_seconds=10)
        await startup.wait_for(Stage.DEGRADED, timeout_seconds=10)  # its task has ended
        messages.close()
