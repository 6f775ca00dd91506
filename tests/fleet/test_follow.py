"""`follow` on a real Redis, on asyncio and trio."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import anyio
import pytest
import redis
import redis.asyncio

from orchestrator.fleet import (
    Change,
    Contact,
    FleetNews,
    FleetUnreachable,
    FleetView,
    Instance,
    Missed,
    Presence,
    PresenceVerdict,
    SilentTogether,
    follow,
)
from orchestrator.fleet._wire import fleet_keys
from states import FailureKind, Stage
from tests.fleet.scripted_instance import ScriptedInstance
from tests.fleet.servers import PROGRAMS
from tests.redis_server import FakeServer, RedisServer, free_port, saying, silent

pytestmark = pytest.mark.anyio

KEYS = fleet_keys("chat")
_PATIENCE_SECONDS = 30.0
_T = TypeVar("_T")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.long] if number else [])
        for number, name in enumerate(PROGRAMS)
    ],
)
def started(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(binary=PROGRAMS[request.param]) as server:
        yield server


@pytest.fixture
def server(started: RedisServer) -> RedisServer:
    """The server, with nothing on it."""
    with client_of(started) as client:
        client.flushall()
    return started


@contextlib.contextmanager
def client_of(server: RedisServer) -> Iterator["redis.Redis"]:
    with redis.Redis(port=server.port, decode_responses=True, protocol=2) as client:
        yield client


async def news_of(fleet: FleetView, kind: type[_T]) -> _T:
    """The next news of this kind."""
    with anyio.fail_after(_PATIENCE_SECONDS):
        async for one in fleet:
            if isinstance(one, kind):
                return one
    raise AssertionError("it has ended")


async def until(fleet: FleetView, what: Callable[[], bool]) -> None:
    with anyio.fail_after(_PATIENCE_SECONDS):
        while not what():
            await anyio.sleep(0.01)


def the_one(fleet: FleetView) -> Instance:
    (one,) = fleet.instances.values()
    return one


async def test_all_instances_are_known_on_entering(server: RedisServer) -> None:
    for name in ("one", "two"):
        ScriptedInstance(server.port, name, version="7").be(Stage.READY)
    async with follow(server.url, service="chat") as fleet:
        assert sorted(one.name for one in fleet.instances.values()) == ["one", "two"]
        assert all(one.is_ready and one.version == "7" for one in fleet.instances.values())
        assert fleet.contact.reached


async def test_a_change_is_delivered_with_the_state_that_it_led_to(server: RedisServer) -> None:
    instance = ScriptedInstance(server.port).be(Stage.READY)
    async with follow(server.url, service="chat") as fleet:
        instance.say(waits_for=("Redis to answer again",))
        instance.be(Stage.DEGRADED)
        change = await news_of(fleet, Change)
        assert (change.changed.previous, change.changed.current) == (Stage.READY, Stage.DEGRADED)
        assert change.changed.cause == "the test wants it"
        assert change.instance.state.waits_for == ("Redis to answer again",)
        assert the_one(fleet).stage is Stage.DEGRADED


async def test_a_new_instance_is_news_from_its_first_change_on(server: RedisServer) -> None:
    async with follow(server.url, service="chat") as fleet:
        assert not fleet.instances
        ScriptedInstance(server.port).be(Stage.GRACE)
        assert (await news_of(fleet, Change)).changed.sequence == 1
        assert (await news_of(fleet, Change)).changed.sequence == 2
        assert (await news_of(fleet, Presence)).presence is PresenceVerdict.ALIVE


async def test_an_instance_that_says_goodbye_has_left(server: RedisServer) -> None:
    instance = ScriptedInstance(server.port).be(Stage.READY)
    async with follow(server.url, service="chat") as fleet:
        instance.leave()
        assert (await news_of(fleet, Presence)).presence is PresenceVerdict.LEFT


async def test_an_instance_whose_loop_is_stuck_is_alive_and_stuck(server: RedisServer) -> None:
    instance = ScriptedInstance(server.port).be(Stage.READY)
    async with follow(server.url, service="chat") as fleet:
        instance.say(stuck_since=1764162140.0)
        instance.beat(0.0)
        assert (await news_of(fleet, Presence)).presence is PresenceVerdict.STUCK
        assert not the_one(fleet).is_ready
        instance.say(stuck_since=None)
        instance.beat()
        assert (await news_of(fleet, Presence)).presence is PresenceVerdict.ALIVE
        assert the_one(fleet).state.stuck_since is None


async def test_instances_that_stop_together_are_one_piece_of_news(server: RedisServer) -> None:
    for number in range(4):
        ScriptedInstance(server.port, f"i{number}", lease_seconds=1.0).be(Stage.READY)
    async with follow(server.url, service="chat") as fleet:
        together = await news_of(fleet, SilentTogether)
        assert str(together) == "4 of 4 went silent together: the way to Redis?"
        verdicts = {one.presence for one in fleet.instances.values()}
        assert verdicts == {PresenceVerdict.SILENT}


async def test_a_reader_goes_on_where_another_one_stopped(server: RedisServer) -> None:
    instance = ScriptedInstance(server.port).be(Stage.READY)
    async with follow(server.url, service="chat") as fleet:
        instance.change(3)
        instance.beat()
        first = await news_of(fleet, Change)
        cursor = fleet.cursor
    instance.change()
    instance.beat()
    other = ScriptedInstance(server.port, "other").be(Stage.GRACE)
    async with follow(server.url, service="chat", cursor=cursor) as fleet:
        changes = [await news_of(fleet, Change) for _ in range(5)]
    of_first = [one.changed.sequence for one in changes if one.instance.name == "one"]
    assert [first.changed.sequence, *of_first] == [4, 5, 6, 7]
    assert [one.changed.sequence for one in changes[-2:]] == [1, 2]
    assert changes[-1].instance.incarnation == other.incarnation


async def test_what_the_stream_has_lost_is_counted_and_the_state_is_right(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.fleet._changes._HEAL_SECONDS", 0.2)
    instance = ScriptedInstance(server.port).be(Stage.READY)
    async with follow(server.url, service="chat") as fleet:
        cursor = fleet.cursor
    instance.change(5)
    instance.beat()
    with client_of(server) as client:
        client.xtrim(KEYS.events, maxlen=0, approximate=False)
    async with follow(server.url, service="chat", cursor=cursor) as fleet:
        assert (await news_of(fleet, Missed)).count == 4
        last = await news_of(fleet, Change)
        assert (last.changed.sequence, last.place) == (instance.sequence, "")
        assert fleet.missed == 4


async def test_members_of_a_group_share_the_changes(server: RedisServer) -> None:
    instance = ScriptedInstance(server.port)
    got: list[int] = []
    async with (
        follow(server.url, service="chat", group="mail") as first,
        follow(server.url, service="chat", group="mail") as second,
        anyio.create_task_group() as tasks,
    ):

        async def work(fleet: FleetView) -> None:
            async for one in fleet:
                if isinstance(one, Change):
                    got.append(one.changed.sequence)
                if len(got) == 40:
                    tasks.cancel_scope.cancel()

        await until(first, lambda: group_count(server) == 1)
        tasks.start_soon(work, first)
        tasks.start_soon(work, second)
        tasks.cancel_scope.deadline = anyio.current_time() + _PATIENCE_SECONDS
        for _ in range(40):
            instance.change()
            instance.beat()
            await anyio.sleep(0.001)
        await anyio.sleep_forever()
    assert sorted(got) == list(range(1, 41))


def group_count(server: RedisServer) -> int:
    with client_of(server) as client:
        return len(client.xinfo_groups(KEYS.events)) if client.exists(KEYS.events) else 0


async def test_what_a_member_did_not_finish_comes_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.fleet._group_source._ABANDONED_SECONDS", 0.05)
    monkeypatch.setattr("orchestrator.fleet._group_source._LOOK_SECONDS", 0.1)
    instance = ScriptedInstance(server.port)
    async with follow(server.url, service="chat", group="mail") as fleet:
        await until(fleet, lambda: group_count(server) == 1)
        instance.change(2)
        instance.beat()
        for _ in range(2):  # with the second one, the first is finished
            await news_of(fleet, Change)
    async with follow(server.url, service="chat", group="mail") as fleet:
        again = await news_of(fleet, Change)
        assert (again.changed.sequence, again.again) == (2, True)


async def test_redis_that_goes_away_makes_all_unknown_and_is_one_piece_of_news(
    anyio_backend: str,
) -> None:
    with RedisServer() as server:
        for name in ("one", "two"):
            ScriptedInstance(server.port, name).be(Stage.READY)
        async with follow(server.url, service="chat") as fleet:
            server.kill()
            gone = await news_of(fleet, Contact)
            assert not gone.reached
            assert gone.reason.startswith("redis at 127.0.0.1:")
            assert {one.presence for one in fleet.instances.values()} == {PresenceVerdict.UNKNOWN}
            server.start()
            assert (await news_of(fleet, Contact)).reached


@pytest.mark.parametrize("given", ["url", "sync", "asyncio"])
async def test_no_option_of_the_url_or_the_client_changes_what_is_read(
    server: RedisServer, given: str
) -> None:
    instance = ScriptedInstance(server.port).be(Stage.READY)
    options: dict[str, Any] = {"socket_timeout": 0.2, "protocol": 3, "health_check_interval": 1}
    options["decode_responses"] = True
    if given == "url":
        where: Any = f"{server.url}?" + "&".join(f"{name}={it}" for name, it in options.items())
    else:
        family: Any = redis if given == "sync" else redis.asyncio
        where = family.Redis(port=server.port, **options)
    async with follow(where, service="chat") as fleet:
        await anyio.sleep(1.2)  # longer than Redis keeps a reader waiting
        instance.be(Stage.DEGRADED)
        news = await next_news(fleet)
        assert isinstance(news, Change)
        assert news.changed.current is Stage.DEGRADED


async def next_news(fleet: FleetView) -> FleetNews:
    with anyio.fail_after(_PATIENCE_SECONDS):
        return await anext(fleet)


async def test_news_that_nobody_takes_is_dropped_and_counted(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.fleet._fleet_view._MOST_NEWS", 10)
    instance = ScriptedInstance(server.port)
    async with follow(server.url, service="chat") as fleet:
        instance.change(30)
        instance.beat()
        await until(
            fleet, lambda: bool(fleet.instances) and the_one(fleet).state.entry.sequence == 30
        )
        missed = await news_of(fleet, Missed)
        first = await news_of(fleet, Change)
        assert first.changed.sequence == missed.count + 1 > 10


async def test_a_forged_entry_is_counted_and_nothing_else_happens(server: RedisServer) -> None:
    instance = ScriptedInstance(server.port).be(Stage.READY)
    async with follow(server.url, service="chat") as fleet:
        with client_of(server) as client:
            client.xadd(KEYS.events, {"incarnation": "x", "sequence": "\x1b[2J"})
            client.hset(KEYS.instances, "forged.1", "no state")
            client.hset(KEYS.instances, b"\xff\xfe", b"\xff")
            client.zadd(KEYS.leases, {b"\xff": 1.0})
        instance.be(Stage.DEGRADED)
        assert (await news_of(fleet, Change)).changed.current is Stage.DEGRADED
        await until(fleet, lambda: fleet.unreadable >= 3)
        assert len(fleet.instances) == 1


async def test_keys_of_another_kind_are_a_reason_and_no_crash(server: RedisServer) -> None:
    with client_of(server) as client:
        client.set(KEYS.events, "a text")
    with pytest.raises(FleetUnreachable, match="something else under a key of the fleet"):
        async with follow(server.url, service="chat"):
            pass


async def test_a_reply_that_would_fill_the_memory_ends_the_connection(server: RedisServer) -> None:
    with client_of(server) as client:
        client.hset(KEYS.instances, "forged.1", "x" * 9_000_000)
    with pytest.raises(FleetUnreachable, match="far too long"):
        async with follow(server.url, service="chat"):
            pass


async def test_a_password_that_is_wrong_is_said_at_once_and_without_it(anyio_backend: str) -> None:
    with RedisServer(None, "--requirepass", "right-secret") as server:
        url = f"redis://:wrong-secret@127.0.0.1:{server.port}"
        with pytest.raises(FleetUnreachable) as caught:
            async with follow(url, service="chat", connect_seconds=math.inf):
                pass
        assert caught.value.failure.kind is FailureKind.PERMANENT
        assert "rejected the login" in str(caught.value)
        assert "secret" not in str(caught.value)


async def test_a_port_where_nothing_listens_is_said_after_the_time(anyio_backend: str) -> None:
    with pytest.raises(FleetUnreachable, match="nothing listens there"):
        async with follow(f"redis://127.0.0.1:{free_port()}", service="chat", connect_seconds=0.2):
            pass


async def test_without_time_it_enters_at_once_and_says_what_is_the_matter(
    anyio_backend: str,
) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    async with follow(url, service="chat", connect_seconds=0) as fleet:
        assert fleet.contact == Contact(reached=False, reason="Redis was not asked yet")
        assert not (await news_of(fleet, Contact)).reached


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "is not Redis"),
        (silent, "no answer within 1 s"),
    ],
)
async def test_whatever_else_listens_there_is_said(
    talk: Callable[..., None],
    words: str,
    anyio_backend: str,
) -> None:
    with FakeServer(talk) as server, pytest.raises(FleetUnreachable, match=words):
        async with follow(server.url, service="chat", connect_seconds=1.0):
            pass


async def test_leaving_waits_for_nothing(server: RedisServer) -> None:
    async with follow(server.url, service="chat"):
        await anyio.sleep(0.05)  # the thread waits for a change now, for 1 s
        before = anyio.current_time()
    assert anyio.current_time() - before < 0.9
