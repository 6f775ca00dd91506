"""What the README shows works as it stands there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import Orchestrator, Stage
from tests.redis_server import RedisServer

README = Path(__file__).parent.parent.parent / "README.md"

pytestmark = pytest.mark.anyio


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def test_the_embedding_becomes_ready(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.setenv("REDIS_URL", redis.url)
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102  it is our own README
    app, startup = names["app"], names["startup"]
    assert isinstance(startup, Orchestrator)
    async with app.router.lifespan_context(app):  # type: ignore[attr-defined]  # a FastAPI
        await startup.wait_for(Stage.READY, timeout_seconds=10)
    assert startup.stage is Stage.READY
