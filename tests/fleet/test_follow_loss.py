"""Whatever Redis loses, a reader that is away again and again has every change once and in order.

A real publisher, a real server that is killed, flushed or failed over, and a reader that leaves and
comes back with its cursor all the time. What can't be had any more is counted exactly.
"""

import math
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import anyio
import pytest
import redis

from orchestrator.fleet import Change, Missed, _own_messages, follow
from tests.faults.scenes import wait_until
from tests.fleet.published import KEYS, Published, admin, publishing, told
from tests.fleet.servers import PROGRAMS
from tests.fleet.test_loss import ALWAYS, EVERYSEC, Way
from tests.redis_server import FakeServer, RedisServer

_MOST_SECONDS = 60.0

program = pytest.mark.parametrize(
    "program",
    [
        pytest.param(path, id=name, marks=[pytest.mark.long] if number else [])
        for number, (name, path) in enumerate(PROGRAMS.items())
    ],
)
backend = pytest.mark.parametrize("backend", ["asyncio", "trio"])
times = pytest.mark.parametrize("times", [2, pytest.param(15, marks=pytest.mark.long)])


@pytest.fixture(autouse=True)
def _quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_own_messages, "_BEAT_SECONDS", 0.1)


class Away:
    """A reader that is away again and again, in a thread of its own."""

    def __init__(self, url: str, backend: str) -> None:
        self._url = url
        self._backend = backend
        self._cursor: str | None = None
        self._done = False
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.given: list[int] = []
        self.missed = 0
        self.visits = 0

    @property
    def count(self) -> int:
        """How many changes it has, or knows that it has missed."""
        return len(self.given) + self.missed

    def start(self) -> None:
        self._thread.start()
        assert self._began.wait(_MOST_SECONDS)

    def stop(self) -> None:
        self._done = True
        self._thread.join(_MOST_SECONDS)
        assert not self._thread.is_alive()

    def is_near(self, one: Published) -> None:
        """Wait until no change that it has not read may be gone for good: 256 are kept."""
        wait_until(lambda: one.sequence - self.count < 150, _MOST_SECONDS)

    def has(self, one: Published) -> None:
        """Wait until it has all that this instance has told."""
        wait_until(lambda: self.count >= one.sequence, _MOST_SECONDS)

    def _run(self) -> None:
        anyio.run(self._visit_again_and_again, backend=self._backend)

    async def _visit_again_and_again(self) -> None:
        longer = 1.0
        while not self._done:
            before = self._cursor
            await self._visit(random.uniform(0.05, 0.3) * longer)
            # On a busy machine a short visit may end before anything was read.
            longer = 1.0 if self._cursor != before else min(2 * longer, 64.0)
            await anyio.sleep(random.uniform(0, 0.1))

    async def _visit(self, seconds: float) -> None:
        arguments = {"service": "chat", "cursor": self._cursor, "connect_seconds": math.inf}
        async with follow(self._url, **arguments) as fleet:  # type: ignore[arg-type]  # as it says
            self.visits += 1
            self._cursor = fleet.cursor
            self._began.set()
            with anyio.move_on_after(seconds):
                async for one in fleet:
                    if isinstance(one, Change):
                        self.given.append(one.changed.sequence)
                    elif isinstance(one, Missed):
                        self.missed += one.count
            self._cursor = fleet.cursor


@contextmanager
def away(url: str, backend: str) -> Iterator[Away]:
    reader = Away(url, backend)
    reader.start()
    try:
        yield reader
    finally:
        reader.stop()


def up_to(last: int) -> list[int]:
    return list(range(1, last + 1))


@program
@backend
@times
@pytest.mark.parametrize("log", [ALWAYS, EVERYSEC, ()], ids=["always", "everysec", "off"])
def test_a_redis_that_is_killed_again_and_again(
    program: str, backend: str, times: int, log: tuple[str, ...]
) -> None:
    with (
        RedisServer(None, *log, binary=program) as server,
        away(server.url, backend) as reader,
        publishing(server.url) as one,
    ):
        for _ in range(times):
            one.change(20)
            one.until_told()
            reader.is_near(one)
            one.change(5)  # may be on their way
            server.kill()
            one.change(5)
            server.start()
            one.until_told()
        reader.has(one)
    assert reader.given == up_to(one.sequence)
    assert reader.missed == 0


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, RedisServer]]:
    with ExitStack() as stack:
        yield {
            path: stack.enter_context(RedisServer(None, binary=path)) for path in PROGRAMS.values()
        }


Harm = Callable[["redis.Redis"], object]


def harmed(server: RedisServer, backend: str, times: int, harm: Harm) -> tuple[Away, Published]:
    """A reader of an instance that changes while harm is done."""
    with admin(server) as client:
        client.flushall()
        with away(server.url, backend) as reader, publishing(server.url) as one:
            for _ in range(times):
                one.change(20)
                one.until_told()
                reader.is_near(one)
                harm(client)
                one.change(5)
                one.until_told()
            reader.has(one)
    return reader, one


@program
@backend
@times
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda client: client.flushall(), id="flushall"),
        pytest.param(lambda client: client.delete(KEYS.instances), id="states"),
    ],
)
def test_data_that_is_lost_while_what_is_not_read_yet_is_kept(
    program: str, backend: str, times: int, harm: Harm, servers: dict[str, RedisServer]
) -> None:
    reader, one = harmed(servers[program], backend, times, harm)
    assert reader.given == up_to(one.sequence)
    assert reader.missed == 0


@program
@backend
def test_a_stream_that_counts_from_an_earlier_time(
    program: str, backend: str, servers: dict[str, RedisServer]
) -> None:
    server = servers[program]
    with admin(server) as client:
        client.flushall()
        with away(server.url, backend) as reader, publishing(server.url) as one:
            one.change(20)
            one.until_told()
            client.execute_command("XSETID", KEYS.events, f"{10**13}-0")
            one.change(5)
            one.until_told()
            reader.has(one)
            client.flushall()
            one.change(5)
            one.until_told()
            reader.has(one)
    assert reader.given == up_to(one.sequence)
    assert reader.missed == 0


@program
@backend
@times
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda client: client.delete(KEYS.events), id="deleted"),
        pytest.param(lambda client: client.xtrim(KEYS.events, 0, approximate=False), id="trimmed"),
    ],
)
def test_a_stream_that_is_lost_is_told_by_the_states_and_counted(
    program: str, backend: str, times: int, harm: Harm, servers: dict[str, RedisServer]
) -> None:
    reader, one = harmed(servers[program], backend, times, harm)
    assert reader.given == sorted(set(reader.given)), "in order, and none twice"
    assert reader.given[-1] == one.sequence
    assert len(reader.given) + reader.missed == one.sequence


@program
@backend
def test_a_failover_to_a_replica_that_lacks_changes(program: str, backend: str) -> None:
    quickly = ("--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer(None, *quickly, binary=program))
        of_it = ("--replicaof", "127.0.0.1", str(master.port))
        replica = stack.enter_context(RedisServer(None, *quickly, *of_it, binary=program))
        client = stack.enter_context(admin(replica))
        wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        way = Way(master.port)
        proxy = stack.enter_context(FakeServer(way))
        reader = stack.enter_context(away(proxy.url, backend))
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
        wait_until(lambda: told(client)[-1] == 75)
        reader.has(one)
    assert reader.given == up_to(75)
    assert reader.missed == 0


@pytest.mark.long
@program
def test_twenty_instances_and_a_redis_that_is_killed_six_times(program: str) -> None:
    given: dict[str, list[int]] = {}
    missed = 0

    async def read(url: str, done: threading.Event, began: threading.Event) -> None:
        nonlocal missed
        async with follow(url, service="chat") as fleet:
            began.set()
            while not done.is_set():
                with anyio.move_on_after(0.1):
                    async for one in fleet:
                        if isinstance(one, Change):
                            given.setdefault(one.instance.incarnation, []).append(
                                one.changed.sequence
                            )
                        elif isinstance(one, Missed):
                            missed += one.count

    with RedisServer(None, *EVERYSEC, binary=program) as server, ExitStack() as stack:
        done, began = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: anyio.run(read, server.url, done, began))
        thread.start()
        assert began.wait(_MOST_SECONDS)
        fleet = [stack.enter_context(publishing(server.url)) for _ in range(20)]
        for _ in range(6):
            for one in fleet:
                one.change(31)
            server.kill()
            server.start()
            for one in fleet:
                one.until_told()
        wait_until(lambda: sum(map(len, given.values())) + missed >= 3720, _MOST_SECONDS)
        done.set()
        thread.join(_MOST_SECONDS)
    assert missed == 0
    assert given == {one.incarnation: up_to(186) for one in fleet}
