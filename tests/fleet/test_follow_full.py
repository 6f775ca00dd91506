"""A Redis that has no room left, as a reader sees it: it evicts, or refuses what is written."""

from collections.abc import Iterator

import anyio
import pytest
import redis

from orchestrator.fleet import FleetView, Presence, PresenceVerdict, follow
from orchestrator.fleet import _publisher as publisher_module
from tests.fleet.published import admin, publishing
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS
from tests.fleet.test_follow_loss import away, backend
from tests.redis_server import RedisServer


@pytest.fixture(autouse=True)
def _quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "_BEAT_SECONDS", 0.1)


@pytest.fixture(scope="module", params=EACH_PROGRAM)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(None, binary=PROGRAMS[request.param]) as started:
        yield started


@backend
def test_a_redis_that_evicts_whatever_it_has(server: RedisServer, backend: str) -> None:
    with admin(server) as client:
        client.flushall()
        with away(server.url, backend) as reader, publishing(server.url) as one:
            one.change(20)
            one.until_told()
            reader.has(one)
            client.config_set("maxmemory-policy", "allkeys-random")
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 300_000)
            try:
                for number in range(5000):
                    client.set(f"session:{number}", "x" * 8000)
                    one.change(number % 50 == 0)
                    if one.publisher.backlog.told_again:
                        break
            finally:
                client.config_set("maxmemory", 0)
            assert one.publisher.backlog.told_again, "the keys of the fleet were evicted"
            one.change(5)
            one.until_told()
            reader.has(one)
    assert reader.given == sorted(set(reader.given)), "in order, and none twice"
    assert reader.given[-1] == one.sequence
    assert len(reader.given) + reader.missed == one.sequence


@pytest.mark.long
@backend
def test_instances_of_a_redis_that_is_full_are_silent_until_there_is_room(
    server: RedisServer, backend: str
) -> None:
    with admin(server) as client:
        client.flushall()
        client.config_set("maxmemory-policy", "noeviction")
        with publishing(server.url) as one:
            one.change(2)
            one.until_told()
            anyio.run(_until_silent_and_alive, server, client, backend=backend)


async def _until_silent_and_alive(server: RedisServer, client: "redis.Redis") -> None:
    async with follow(server.url, service="chat") as fleet:
        client.config_set("maxmemory", 1)
        try:
            await _until_one_is(fleet, PresenceVerdict.SILENT)
        finally:
            client.config_set("maxmemory", 0)
        await _until_one_is(fleet, PresenceVerdict.ALIVE)
        assert fleet.contact.reached


async def _until_one_is(fleet: FleetView, presence: PresenceVerdict) -> None:
    with anyio.fail_after(60.0):
        async for one in fleet:
            if isinstance(one, Presence) and one.presence is presence:
                return
