"""A real publisher and a follower that is away again and again, while Redis loses what it has."""

from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread
import pytest
import redis

from orchestrator import Orchestrator, Stage
from orchestrator.fleet import Change, Fleet, Missed, PresenceVerdict, _own_messages, follow
from orchestrator.redis import RedisProbe
from tests.faults.watching import QUICK
from tests.fleet.published import KEYS, Published, admin, publishing
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.long]

_MOST_SECONDS = 60.0


@pytest.fixture(autouse=True)
def _quick_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_own_messages, "_BEAT_SECONDS", 0.2)


class Follower:
    """Reads changes in turns, with a cursor from turn to turn."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cursor: str | None = None
        self.sequences: list[int] = []
        self.missed = 0

    async def begin(self) -> None:
        """Find the place from which to follow; what was before is not news."""
        async with follow(self.url, service="chat") as fleet:
            self.cursor = fleet.cursor

    async def read_up_to(self, sequence: int) -> None:
        """Follow until this change is there, or counted as missed."""
        with anyio.fail_after(_MOST_SECONDS):
            async with follow(self.url, service="chat", cursor=self.cursor) as fleet:
                while not self._has(sequence):
                    news = await anext(fleet)
                    if isinstance(news, Change):
                        self.sequences.append(news.changed.sequence)
                    elif isinstance(news, Missed):
                        self.missed += news.count
                self.cursor = fleet.cursor

    def _has(self, sequence: int) -> bool:
        return bool(self.sequences) and self.sequences[-1] >= sequence


Harm = Callable[[RedisServer, "redis.Redis"], object]


def _kill(server: RedisServer, _client: "redis.Redis") -> None:
    server.kill()
    server.start()


HARMS: dict[str, Harm] = {
    "killed": _kill,
    "FLUSHALL": lambda _server, client: client.flushall(),
    "states lost": lambda _server, client: client.delete(KEYS.instances),
}


async def _round(one: Published, reader: Follower, *, away: bool) -> None:
    one.change(15)
    if not away:
        await reader.read_up_to(one.sequence)
    await anyio.to_thread.run_sync(one.until_told)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS.keys())
async def test_a_follower_that_was_away_gets_every_change_once_and_in_order(
    server: RedisServer, harm: Harm
) -> None:
    reader = Follower(server.url)
    await reader.begin()
    with publishing(server.url) as one:
        for number in range(6):
            await _round(one, reader, away=bool(number % 2))
            with admin(server) as client:
                await anyio.to_thread.run_sync(harm, server, client)
        one.change()
        await reader.read_up_to(one.sequence)
    assert reader.sequences == list(range(1, one.sequence + 1))
    assert reader.missed == 0


async def test_what_was_lost_with_the_stream_is_counted_exactly(server: RedisServer) -> None:
    reader = Follower(server.url)
    await reader.begin()
    with publishing(server.url) as one, admin(server) as client:
        for number in range(6):
            await _round(one, reader, away=bool(number % 2))
            client.delete(KEYS.events)
        one.change()
        await reader.read_up_to(one.sequence)
    assert reader.sequences == sorted(set(reader.sequences))
    assert len(reader.sequences) + reader.missed == one.sequence
    assert reader.missed > 0


async def test_one_that_leaves_is_seen_as_left(server: RedisServer) -> None:
    with anyio.fail_after(_MOST_SECONDS):
        async with follow(server.url, service="chat") as fleet:
            startup = Orchestrator(
                RedisProbe(server.url), policy=QUICK, observers=[Fleet(server.url, service="chat")]
            )

            def verdicts() -> list[PresenceVerdict]:
                return [one.presence for one in fleet.instances.values()]

            async with startup:
                await startup.wait_for(Stage.READY)
                while verdicts() != [PresenceVerdict.ALIVE]:
                    await anext(fleet)
            while verdicts() != [PresenceVerdict.LEFT]:
                await anext(fleet)
