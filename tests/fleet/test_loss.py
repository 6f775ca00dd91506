"""What Redis loses is published again, in order, on every server that is supported."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
import redis

from orchestrator.fleet import _own_messages
from orchestrator.fleet._wire import SERVICES_KEY
from tests.faults.scenes import wait_until
from tests.fleet.published import KEYS, Published, admin, publishing, told
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS
from tests.redis_server import FakeServer, RedisServer, relay

ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
EVERYSEC = ("--appendonly", "yes", "--appendfsync", "everysec")

program = pytest.mark.parametrize("program", EACH_PROGRAM)


@pytest.fixture(autouse=True)
def _quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_own_messages, "_BEAT_SECONDS", 0.1)


def up_to(last: int) -> list[int]:
    return list(range(1, last + 1))


def killed(program: str, arguments: tuple[str, ...], times: int) -> tuple[list[int], Published]:
    """What is in the stream of a Redis that was killed again and again."""
    with (
        RedisServer(None, *arguments, binary=PROGRAMS[program]) as server,
        publishing(server.url) as one,
    ):
        for _ in range(times):
            one.change(20)
            one.until_told()
            one.change(5)  # may be on their way
            server.kill()
            one.change(5)
            server.start()
            one.until_told()
        with admin(server) as client:
            return told(client), one


@program
@pytest.mark.parametrize("arguments", [ALWAYS, EVERYSEC], ids=["always", "everysec"])
def test_a_redis_that_writes_its_log_and_is_killed_has_every_change_once_and_in_order(
    program: str, arguments: tuple[str, ...]
) -> None:
    stream, one = killed(program, arguments, times=2)
    assert stream == up_to(one.sequence)


@program
def test_a_redis_that_writes_nothing_and_is_killed_is_given_all_that_is_kept(program: str) -> None:
    stream, one = killed(program, (), times=2)
    assert stream == up_to(one.sequence)
    assert one.publisher.backlog.sent_again > 0


@pytest.mark.long
@program
@pytest.mark.parametrize("arguments", [ALWAYS, EVERYSEC, ()], ids=["always", "everysec", "off"])
def test_the_same_is_so_after_15_kills(program: str, arguments: tuple[str, ...]) -> None:
    stream, one = killed(program, arguments, times=15)
    first = 1 if arguments else stream[0]
    assert stream == list(range(first, one.sequence + 1))
    assert len(stream) >= 256


@pytest.fixture(scope="module", params=EACH_PROGRAM)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(None, binary=PROGRAMS[request.param]) as started:
        yield started


@pytest.fixture
def client(server: RedisServer) -> Iterator["redis.Redis"]:
    with admin(server) as connected:
        connected.flushall()
        connected.config_set("maxmemory", 0)
        connected.acl_deluser("narrow")
        yield connected


Harm = Callable[["redis.Redis"], object]


def harmed(server: RedisServer, client: "redis.Redis", harm: Harm) -> Published:
    """An instance that has published 40 changes while harm was done four times."""
    with publishing(server.url) as one:
        for _ in range(4):
            one.change(10)
            one.until_told()
            harm(client)
        one.change()
        one.until_told()
        wait_until(lambda: client.hexists(KEYS.instances, one.incarnation) is True)
    return one


def test_after_flushall_every_change_is_there_once_and_in_order(
    server: RedisServer, client: "redis.Redis"
) -> None:
    one = harmed(server, client, lambda redis: redis.flushall())
    assert told(client) == up_to(41)
    assert one.publisher.connects == 1


def test_after_flushall_it_is_published_again_although_nothing_happens(
    server: RedisServer, client: "redis.Redis"
) -> None:
    with publishing(server.url) as one:
        one.change(3)
        one.until_told()
        client.flushall()
        wait_until(lambda: told(client) == up_to(3))
        wait_until(lambda: client.zcard(KEYS.leases) == 1)
        # Without it `fleet` finds no service to show, for up to an hour.
        wait_until(lambda: client.zscore(SERVICES_KEY, "chat") is not None)


def test_after_the_states_are_lost_everything_kept_is_there_again_in_order(
    server: RedisServer, client: "redis.Redis"
) -> None:
    harmed(server, client, lambda redis: redis.delete(KEYS.instances))
    stream = told(client)
    runs = [position for position, sequence in enumerate(stream) if sequence == 1] + [len(stream)]
    for begin, end in pairwise(runs):
        assert stream[begin:end] == up_to(end - begin)
    assert stream[-41:] == up_to(41)


def test_after_the_stream_is_lost_the_rest_follows_in_order(
    server: RedisServer, client: "redis.Redis"
) -> None:
    harmed(server, client, lambda redis: redis.delete(KEYS.events))
    assert told(client) == [41]


class Way:
    """A port that leads to one server or another; a new connection goes where it leads then."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, sock: socket.socket) -> None:
        relay(self.port)(sock)


def test_a_replica_that_lacked_changes_has_all_of_them_once_it_is_master() -> None:
    quickly = ("--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer(None, *quickly))
        of_it = ("--replicaof", "127.0.0.1", str(master.port))
        replica = stack.enter_context(RedisServer(None, *quickly, *of_it))
        client = stack.enter_context(admin(replica))
        wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        way = Way(master.port)
        proxy = stack.enter_context(FakeServer(way))
        one = stack.enter_context(publishing(proxy.url))
        one.change(10)
        one.until_told()
        wait_until(lambda: told(client) == up_to(10))
        client.replicaof("NO", "ONE")  # what follows is lost with the master
        one.change(60)
        one.until_told()
        way.port = replica.port
        master.kill()
        one.change(5)
        wait_until(lambda: told(client) == up_to(75))
        assert one.publisher.backlog.sent_again == 60


def test_a_master_that_lives_on_as_a_replica_is_left_with_back_off() -> None:
    quickly = ("--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        first, second = (stack.enter_context(RedisServer(None, *quickly)) for _ in range(2))
        client, other = stack.enter_context(admin(first)), stack.enter_context(admin(second))
        way = Way(first.port)
        proxy = stack.enter_context(FakeServer(way))
        one = stack.enter_context(publishing(proxy.url))
        one.change(3)
        one.until_told()
        client.replicaof("127.0.0.1", str(second.port))  # nobody's connection is closed
        one.change(2)
        wait_until(lambda: "READONLY" in one.publisher.said)
        wait_until(lambda: one.publisher.connects >= 3)
        way.port = second.port
        wait_until(lambda: told(other) == up_to(5), 30)
        assert one.publisher.connects < 12


def test_in_a_large_fleet_each_beats_more_rarely_and_its_lease_lasts_longer(
    server: RedisServer, client: "redis.Redis"
) -> None:
    client.zadd(KEYS.leases, {f"other.{number}": 1e12 for number in range(3000)})
    with publishing(server.url) as one:
        one.change()
        one.until_told()
        wait_until(lambda: one.state_in(client).beat_seconds > 2)
        state = one.state_in(client)
        assert one.publisher.fleet_size == 3001
        assert state.beat_seconds == pytest.approx(6, abs=0.1)
        assert state.lease_seconds == pytest.approx(18, abs=0.1)


@pytest.mark.parametrize("lease_beats", [3, 10_000])
def test_the_size_of_the_fleet_is_kept_until_all_have_had_the_time_to_be_back(
    lease_beats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_own_messages, "_LEASE_BEATS", lease_beats)
    with RedisServer() as server, admin(server) as client, publishing(server.url) as one:
        client.zadd(KEYS.leases, {f"other.{number}": 1e12 for number in range(5)})
        wait_until(lambda: one.publisher.fleet_size == 6)
        one.change()
        one.until_told()
        for lose in (client.flushall, server.kill):
            lose()
            if lose == server.kill:
                server.start()
            one.change()
            one.until_told()
            wait_until(lambda: client.zcard(KEYS.leases) == 1)
            if lease_beats == 3:
                wait_until(lambda: one.publisher.fleet_size == 1)
            else:
                assert one.publisher.fleet_size == 6


def test_a_gap_is_told_by_the_sequence_and_counted(
    server: RedisServer, client: "redis.Redis"
) -> None:
    with publishing(server.url) as one:
        one.change(2)
        one.until_told()
        os.kill(server.pid, signal.SIGSTOP)
        one.change(300)
        os.kill(server.pid, signal.SIGCONT)
        one.until_told()
        stream, dropped = told(client), one.publisher.backlog.dropped
    assert stream[:2] == [1, 2]
    assert stream[2:] == list(range(302 - len(stream[2:]) + 1, 303))
    assert dropped == 302 - len(stream)


def test_a_redis_that_is_full_is_given_the_changes_when_there_is_room(
    server: RedisServer, client: "redis.Redis"
) -> None:
    with publishing(server.url) as one:
        one.change(2)
        one.until_told()
        client.config_set("maxmemory", 1)
        one.change(3)
        wait_until(lambda: "OOM" in one.publisher.said)
        assert told(client) == [1, 2]
        client.config_set("maxmemory", 0)
        one.until_told()
        assert told(client) == up_to(5)
        assert one.publisher.connects == 1


def test_scripts_that_redis_has_forgotten_are_given_to_it_again(
    server: RedisServer, client: "redis.Redis"
) -> None:
    with publishing(server.url) as one:
        one.change()
        one.until_told()
        client.script_flush()
        one.change()
        one.until_told()
        assert one.publisher.connects == 1
    assert told(client) == [1, 2]


@pytest.mark.parametrize("key", [KEYS.events, KEYS.instances, KEYS.leases])
def test_a_key_of_another_type_is_said_and_tried_again_later(
    server: RedisServer, client: "redis.Redis", key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.fleet._knock_pace._LASTING_SECONDS", 0.1)
    client.set(key, "mine")
    with publishing(server.url) as one:
        one.change()
        wait_until(lambda: one.publisher.said == {"WRONGTYPE"})
        assert client.get(key) == "mine"
        client.delete(key)
        one.until_told()
        assert one.publisher.connects == 1
    assert told(client) == [1]


@pytest.mark.parametrize("missing", ["-xadd", "-hset", "-zadd", "-eval -evalsha", "-time"])
def test_a_missing_permission_is_said_and_tried_again_later(
    server: RedisServer, client: "redis.Redis", missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.fleet._knock_pace._LASTING_SECONDS", 0.1)
    commands = ["+@all", *missing.split()]
    client.acl_setuser("narrow", True, passwords="+word", keys="*", commands=commands)
    url = server.url.replace("redis://", "redis://narrow:word@")
    with publishing(url) as one:
        one.change()
        wait_until(lambda: one.publisher.said == {"NOPERM"})
        client.acl_setuser("narrow", True, commands=["+@all"])
        one.until_told()
        assert one.publisher.connects == 1
    assert told(client)[-1] == 1
