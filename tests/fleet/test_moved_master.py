"""A fail-over by name: the old master lives on as a replica, and nobody's connection is closed.

The name is a relay, which leads new connections elsewhere once it follows.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import anyio
import pytest

from orchestrator.fleet import Change, Contact, Missed, _own_messages, follow
from orchestrator.fleet._fleet_reader import FleetReader
from orchestrator.fleet._fleet_source import DemotedError
from tests.faults.scenes import wait_until
from tests.fleet.published import admin, publishing, told
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS
from tests.fleet.test_loss import Way, up_to
from tests.fleet.test_reader_laws import Follower
from tests.redis_server import FakeServer, RedisServer

_MOST_SECONDS = 60.0
_CONNECTS_PER_SECOND = 4
"""At most: what the pace allows while the name still leads to the old one."""


@pytest.fixture(autouse=True)
def _quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_own_messages, "_BEAT_SECONDS", 0.1)


class Reading:
    """A reader that stays, in a thread of its own."""

    def __init__(self, url: str, backend: str) -> None:
        self._url = url
        self._done = threading.Event()
        self._began = threading.Event()
        self._thread = threading.Thread(
            target=lambda: anyio.run(self._run, backend=backend), daemon=True
        )
        self.given: list[int] = []
        self.missed = 0
        self.contacts: list[Contact] = []

    def start(self) -> None:
        self._thread.start()
        assert self._began.wait(_MOST_SECONDS)

    def stop(self) -> None:
        self._done.set()
        self._thread.join(_MOST_SECONDS)
        assert not self._thread.is_alive()

    async def _run(self) -> None:
        async with follow(self._url, service="chat") as fleet:
            self._began.set()
            while not self._done.is_set():
                with anyio.move_on_after(0.1):
                    async for one in fleet:
                        match one:
                            case Change(_, changed):
                                self.given.append(changed.sequence)
                            case Missed(_, count):
                                self.missed += count
                            case Contact():
                                self.contacts.append(one)


@contextmanager
def reading(url: str, backend: str) -> Iterator[Reading]:
    reader = Reading(url, backend)
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()


@pytest.mark.parametrize("program", EACH_PROGRAM)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "name_follows_after",
    [
        0.0,
        2.0,
        pytest.param(5.0, marks=pytest.mark.long),
        pytest.param(30.0, marks=pytest.mark.long),
    ],
)
def test_whoever_is_left_with_the_old_master_finds_the_new_one(
    program: str, backend: str, name_follows_after: float
) -> None:
    quickly = ("--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        old = stack.enter_context(RedisServer(None, *quickly, binary=PROGRAMS[program]))
        of_it = ("--replicaof", "127.0.0.1", str(old.port))
        new = stack.enter_context(RedisServer(None, *quickly, *of_it, binary=PROGRAMS[program]))
        client, other = stack.enter_context(admin(old)), stack.enter_context(admin(new))
        wait_until(lambda: other.info("replication")["master_link_status"] == "up")
        way = Way(old.port)
        proxy = stack.enter_context(FakeServer(way))
        reader = stack.enter_context(reading(proxy.url, backend))
        one = stack.enter_context(publishing(proxy.url))
        one.change(10)
        one.until_told()
        wait_until(lambda: told(other) == up_to(10))

        other.replicaof("NO", "ONE")
        client.replicaof("127.0.0.1", str(new.port))
        one.change(5)
        before, since = one.publisher.connects, time.monotonic()
        if name_follows_after:
            wait_until(lambda: "READONLY" in one.publisher.said, _MOST_SECONDS)
            wait_until(lambda: any(not one.reached for one in reader.contacts), _MOST_SECONDS)
            assert "is a read-only replica" in reader.contacts[0].reason
            threading.Event().wait(name_follows_after)  # that is how long the name takes
        connects, lasted = one.publisher.connects - before, time.monotonic() - since
        way.port = new.port

        wait_until(lambda: told(other) == up_to(15), _MOST_SECONDS)
        old.kill()  # nobody needs it any more
        one.change(5)
        wait_until(lambda: told(other) == up_to(20), _MOST_SECONDS)
        wait_until(lambda: len(reader.given) + reader.missed >= 20, _MOST_SECONDS)
    assert reader.given == up_to(20)
    assert reader.missed == 0
    assert connects <= 3 + _CONNECTS_PER_SECOND * lasted


def test_a_reader_leaves_a_master_that_has_become_a_replica_for_a_minute() -> None:
    follower = Follower()
    reader, redis = follower.reader, follower.redis
    reader.connect(redis)
    redis.follows = True
    assert is_left(follower, 3.0)  # states are read again after 2 s
    reader.lose("is a replica")
    for _ in range(10):
        assert is_refused(reader, follower)
        follower.at += 5.0
    follower.at += 10.0
    assert not is_refused(reader, follower), "its name leads nowhere else"
    assert not is_left(follower, 100.0)


def test_a_reader_that_was_given_a_replica_stays_there() -> None:
    follower = Follower()
    follower.redis.follows = True
    follower.reader.connect(follower.redis)
    assert not is_left(follower, 100.0)


def test_a_redis_that_does_not_say_what_it_is_is_read() -> None:
    follower = Follower()
    follower.reader.connect(follower.redis)
    follower.redis.follows = None
    assert not is_left(follower, 100.0)


def is_refused(reader: FleetReader, follower: Follower) -> bool:
    try:
        reader.connect(follower.redis)
    except DemotedError:
        return True
    return False


def is_left(follower: Follower, within_seconds: float) -> bool:
    until = follower.at + within_seconds
    while follower.at < until:
        follower.at += 0.5
        try:
            follower.reader.turn(follower.redis)
        except DemotedError:
            return True
    return False
