"""The two users of docs/deploy/fleet.acl: each may do what it needs, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from orchestrator.fleet import Change, follow
from tests.fleet.published import admin, publishing
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS, is_old
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio

ACL = (Path(__file__).parents[2] / "docs/deploy/fleet.acl").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=EACH_PROGRAM)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    rules = ACL.replace("SERVICE", "chat")
    rules = rules.replace("change-this-password-too", "read")
    rules = rules.replace("change-this-password", "publish")
    if is_old(PROGRAMS[request.param]):  # it knows no keys that may only be read
        rules = rules.replace("%R~", "~")
    file = tmp_path_factory.mktemp("acl") / "fleet.acl"
    file.write_text(rules, encoding="utf-8")
    with RedisServer(None, "--aclfile", str(file), binary=PROGRAMS[request.param]) as started:
        yield started


def url_of(server: RedisServer, user: str, password: str) -> str:
    return server.url.replace("redis://", f"redis://{user}:{password}@")


async def test_one_user_publishes_and_the_other_follows(server: RedisServer) -> None:
    publisher = url_of(server, "fleet-publisher", "publish")
    reader = url_of(server, "fleet-reader", "read")
    with admin(server) as client:
        client.flushall()
    with anyio.fail_after(30):
        async with follow(reader, service="chat") as fleet:
            with publishing(publisher) as one:
                one.change(3)
                async for news in fleet:
                    if isinstance(news, Change) and news.changed.sequence == 3:
                        break
                await anyio.to_thread.run_sync(one.until_told)
                assert one.publisher.said == set()
    with admin(server) as client:
        assert client.zscore("orchestrator:services", "chat")
        denied: Any = client.acl_log()
        assert {entry["object"] for entry in denied} <= {"client|setinfo", "client"}


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("fleet-publisher:publish", "SET {orchestrator:chat}:events 1"),
        ("fleet-publisher:publish", "DEL {orchestrator:chat}:events"),
        ("fleet-publisher:publish", "XADD {orchestrator:other}:events * a b"),
        ("fleet-publisher:publish", "GET session:1"),
        ("fleet-publisher:publish", "KEYS *"),
        ("fleet-publisher:publish", "FLUSHALL"),
        ("fleet-publisher:publish", "CONFIG GET *"),
        ("fleet-publisher:publish", "PUBLISH channel message"),
        ("fleet-reader:read", "XADD {orchestrator:chat}:events * a b"),
        ("fleet-reader:read", "HSET {orchestrator:chat}:instances a b"),
        ("fleet-reader:read", "ZADD {orchestrator:chat}:leases 1 a"),
        ("fleet-reader:read", "EVAL return 0"),
        ("fleet-reader:read", "HGET {orchestrator:other}:instances a"),
        ("fleet-reader:read", "KEYS *"),
    ],
)
def test_neither_may_do_anything_else(server: RedisServer, user: str, words: str) -> None:
    name, _, password = user.partition(":")
    with redis.Redis.from_url(url_of(server, name, password)) as client:
        asked: Any = client
        with pytest.raises(redis.exceptions.NoPermissionError):
            asked.execute_command(*words.split())
