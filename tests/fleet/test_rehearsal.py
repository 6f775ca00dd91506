"""Two hundred real orchestrators on one real Redis that is killed, frozen and emptied meanwhile."""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import pytest
import redis
from anyio import to_thread

from orchestrator.fleet import Change, Missed, PresenceVerdict, follow
from orchestrator.fleet._wire import fleet_keys
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.long]

_ROOT = Path(__file__).parents[2]
_PROCESSES, _EACH = 8, 25
_MOST_SECONDS = 90.0


@dataclass
class Heard:
    """What a follower was given, over all of its turns."""

    url: str
    cursor: str | None = None
    changes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    missed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    alive: int = 0

    async def listen(self, until: Callable[["Heard"], bool]) -> None:
        """Follow on from where the last turn ended."""
        with anyio.fail_after(_MOST_SECONDS):
            async with follow(self.url, service="chat", cursor=self.cursor) as fleet:
                while not until(self):
                    with anyio.move_on_after(0.5):
                        news = await anext(fleet)
                        if isinstance(news, Change):
                            self.changes[news.instance.name].append(news.changed.sequence)
                        elif isinstance(news, Missed):
                            self.missed[news.instance.name] += news.count
                    there = [one.presence for one in fleet.instances.values()]
                    self.alive = there.count(PresenceVerdict.ALIVE)
                self.cursor = fleet.cursor

    def has_come_to(self, last: dict[str, int]) -> bool:
        """Whether each instance's last change is known, or counted as missed."""
        return all(len(self.changes[name]) + self.missed[name] >= n for name, n in last.items())

    @property
    def count(self) -> int:
        """How many changes were given."""
        return sum(map(len, self.changes.values()))


@asynccontextmanager
async def two_hundred(port: int) -> AsyncGenerator[list["subprocess.Popen[str]"]]:
    """The processes; none is left behind."""
    names = [f"flapping-{number}" for number in range(_PROCESSES * _EACH)]
    with ExitStack() as ended:
        processes = []
        for first in range(0, len(names), _EACH):
            command = [sys.executable, "-m", "tests.fleet.fleet_process", str(port)]
            process = subprocess.Popen(
                [*command, *names[first : first + _EACH]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=_ROOT,
            )
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                ended.callback(stream.close)
            ended.callback(process.wait)
            ended.callback(process.kill)
            processes.append(process)
        yield processes


def last_change_of_each(process: "subprocess.Popen[str]") -> dict[str, int]:
    """Let the process come to rest, and ask it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    last: dict[str, int] = json.loads(process.stdout.readline())
    return last


def killed(server: RedisServer) -> None:
    server.kill()
    server.start()


def emptied(server: RedisServer) -> None:
    with redis.Redis(port=server.port) as client:
        client.flushall()


async def test_whatever_redis_loses_every_change_is_given_once_in_order_or_counted() -> None:
    with RedisServer() as server:
        heard = Heard(server.url)
        await heard.listen(lambda _: True)  # before the first of them
        async with two_hundred(server.port) as processes:
            count = _PROCESSES * _EACH
            await heard.listen(lambda one: one.alive == count)

            for harm in (killed, emptied):
                await to_thread.run_sync(harm, server)  # while the follower is away
                await heard.listen(lambda one: one.alive == count)
            server.freeze()
            await anyio.sleep(3.0)  # so long it is frozen
            server.thaw()
            before = heard.count
            await heard.listen(lambda one: one.alive == count and one.count > before + 20)
            await to_thread.run_sync(killed, server)

            last: dict[str, int] = {}
            for process in processes:
                last |= await to_thread.run_sync(last_change_of_each, process)
            await heard.listen(partial(Heard.has_come_to, last=last))
            assert len(last) == count
            assert sum(last.values()) > 6 * count  # they were busy
            for name, sequence in last.items():
                given = heard.changes[name]  # some have changed once more since
                assert given == list(range(1, len(given) + 1)), name
                assert len(given) >= sequence, name
            # Only the stream's own loss can be counted: instances keep their last 256 changes.
            assert sum(heard.missed.values()) == 0
            await heard.listen(lambda one: one.alive == count)

        with redis.Redis(port=server.port) as client:
            keys = fleet_keys("chat")
            assert client.hlen(keys.instances) == client.zcard(keys.leases) == count
