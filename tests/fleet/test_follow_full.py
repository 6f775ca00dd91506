"""A Redis that has no room left, as a reader sees it: it evicts, or refuses what is written."""

from collections.abc import Callable, Iterator

import anyio
import pytest
import redis

from orchestrator.fleet import (
    FleetView,
    Instance,
    PresenceVerdict,
    _housekeeping,
    _own_messages,
    follow,
)
from orchestrator.fleet._deploy_gate import why_not_ready
from orchestrator.fleet._fleet_rows import fleet_rows
from states import Stage
from tests.faults.scenes import wait_until
from tests.fleet.published import KEYS, Published, admin, publishing
from tests.fleet.scripted_instance import ScriptedInstance
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS
from tests.fleet.test_follow_loss import away, backend
from tests.redis_server import RedisServer


@pytest.fixture(autouse=True)
def _quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_own_messages, "_BEAT_SECONDS", 0.1)


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
                    if one.publisher.backlog.sent_again:
                        break
            finally:
                client.config_set("maxmemory", 0)
            assert one.publisher.backlog.sent_again, "the keys of the fleet were evicted"
            one.change(5)
            one.until_told()
            reader.has(one)
    assert reader.given == sorted(set(reader.given)), "in order, and none twice"
    assert reader.given[-1] == one.sequence
    assert len(reader.given) + reader.missed == one.sequence


@backend
def test_instances_of_a_redis_that_is_full_are_alive_and_say_what_they_cannot_tell(
    server: RedisServer, backend: str
) -> None:
    with admin(server) as client:
        client.flushall()
        client.config_set("maxmemory-policy", "noeviction")
        with publishing(server.url) as one:
            one.change(3)
            one.until_told()
            anyio.run(_until_full_and_well_again, server, client, one, backend=backend)


async def _until_full_and_well_again(
    server: RedisServer, client: "redis.Redis", one: Published
) -> None:
    async with follow(server.url, service="chat") as fleet:
        await _until(fleet, lambda instance: instance.is_ready)
        client.config_set("maxmemory", 1)
        try:
            one.change(2)
            await _until(fleet, lambda instance: instance.state.untold == 2)
            instance = fleet.instances[one.incarnation]
            assert instance.presence is PresenceVerdict.ALIVE
            assert "has no memory left for writing (OOM)" in instance.state.held_back
            assert instance.state.entry.sequence == 3
            assert instance.stage is Stage.READY
            assert not instance.is_ready, "what was known before is old"
            (row,) = fleet_rows([*fleet.instances.values()])
            assert row.trouble_since is not None
            assert row.untold.startswith("2 later changes are not known: redis at 127.0.0.1:")
            assert row.untold in why_not_ready(instance)
            before = instance.state.entry.sequence
            await anyio.sleep(6.5)  # longer than a lease
            assert fleet.instances[one.incarnation].presence is PresenceVerdict.ALIVE
            assert fleet.instances[one.incarnation].state.entry.sequence == before
        finally:
            client.config_set("maxmemory", 0)
        await _until(fleet, lambda instance: instance.state.entry.sequence == 5)
        await _until(fleet, lambda instance: not instance.state.untold)
        assert fleet.instances[one.incarnation].state.held_back == ""
        assert (fleet.missed, fleet.contact.reached) == (0, True)


async def _until(fleet: FleetView, true: Callable[[Instance], bool]) -> None:
    with anyio.fail_after(60.0):
        while not all(map(true, fleet.instances.values())) or not fleet.instances:
            await anyio.sleep(0.02)


def test_one_that_says_goodbye_to_a_redis_that_is_full_has_left(server: RedisServer) -> None:
    with admin(server) as client:
        client.flushall()
        client.config_set("maxmemory-policy", "noeviction")
        with publishing(server.url) as one:
            one.change(3)
            one.until_told()
            client.config_set("maxmemory", 1)
            try:
                one.publisher.leave()
                wait_until(lambda: one.state_in(client).left)
            finally:
                client.config_set("maxmemory", 0)


def test_leases_that_are_evicted_alone_leave_no_state_behind(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_housekeeping, "_ADOPT_SECONDS", 0.1)
    monkeypatch.setattr(_own_messages, "_KEPT_SECONDS", 1.0)
    with admin(server) as client:
        client.flushall()
        gone = ScriptedInstance(server.port, "gone")
        gone.change()
        gone.beat()
        with publishing(server.url) as one:
            one.change(3)
            one.until_told()
            client.delete(KEYS.leases)
            wait_until(lambda: client.hkeys(KEYS.instances) == [one.incarnation], 20.0)
            assert one.publisher.backlog.sent_again == 0
            assert client.zcard(KEYS.leases) == 1
