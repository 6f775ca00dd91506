"""Two hundred real orchestrators on one Redis that is killed, emptied, failed over and frozen.

The Redis is a real master with a real replica, and a real sentinel promotes it. Whatever happens, a
follower that was away meanwhile is given every change once and in order.
"""

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

from orchestrator.fleet import Change, Missed, PresenceVerdict, follow_sentinel
from orchestrator.fleet._wire import fleet_keys
from tests.faults.net_scenes import Sentinel
from tests.faults.scenes import wait_until
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.anyio, pytest.mark.long]

_ROOT = Path(__file__).parents[2]
_PROCESSES, _EACH = 8, 25
_MOST_SECONDS = 90.0


@dataclass
class Heard:
    """What a follower was given, over all of its turns."""

    sentinel: tuple[str, int]
    cursor: str | None = None
    changes: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    missed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    alive: int = 0

    async def listen(self, until: Callable[["Heard"], bool]) -> None:
        """Follow on from where the last turn ended."""
        with anyio.fail_after(_MOST_SECONDS):
            where = [self.sentinel], "chat"
            async with follow_sentinel(*where, service="chat", cursor=self.cursor) as fleet:
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
async def two_hundred(port: str) -> AsyncGenerator[list["subprocess.Popen[str]"]]:
    """The processes; none is left behind."""
    names = [f"flapping-{number}" for number in range(_PROCESSES * _EACH)]
    with ExitStack() as ended:
        processes = []
        for first in range(0, len(names), _EACH):
            command = [sys.executable, "-m", "tests.fleet.fleet_process", port]
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


class WatchedPair:
    """A master, its replica, and a sentinel that promotes it.

    Args:
        stack: Ends them.
    """

    def __init__(self, stack: ExitStack) -> None:
        quickly = ("--repl-diskless-sync-delay", "0")
        first = stack.enter_context(RedisServer(None, *quickly))
        of_it = ("--replicaof", "127.0.0.1", str(first.port))
        second = stack.enter_context(RedisServer(None, *quickly, *of_it))
        self._servers = {one.port: one for one in (first, second)}
        self.sentinel = stack.enter_context(
            Sentinel(first.port, down_after_milliseconds=2000)  # a busy machine is no outage
        )
        self._asked = stack.enter_context(redis.Redis(port=self.sentinel.server.port))
        self.until_it_has_a_replica()

    @property
    def master(self) -> RedisServer:
        """The one that the sentinel names."""
        _, port = self._asked.sentinel_get_master_addr_by_name("chat")
        return self._servers[port]

    def until_it_has_a_replica(self) -> None:
        """Wait until the sentinel could promote one that has everything."""
        wait_until(self._has_replica, _MOST_SECONDS)

    def _has_replica(self) -> bool:
        replicas = self._asked.sentinel_slaves("chat")
        with redis.Redis(port=self.master.port) as client:
            try:
                linked = client.info("replication")["connected_slaves"]
            except redis.ConnectionError:
                return False
        return linked == 1 and any(one["master-link-status"] == "ok" for one in replicas)

    def until_another_is_master(self, before: RedisServer) -> None:
        """Wait until the sentinel has promoted the other one."""
        # The sentinel waits before it tries once more.
        wait_until(lambda: self.master is not before, 2 * _MOST_SECONDS)


def restarted(pair: WatchedPair) -> None:
    """What was in it is gone, and soon from the replica, too."""
    master = pair.master
    master.kill()
    master.start()


def emptied(pair: WatchedPair) -> None:
    with redis.Redis(port=pair.master.port) as client:
        client.flushall()


def failed_over(pair: WatchedPair) -> None:
    """Killed, and back as a replica once the other one is master."""
    pair.until_it_has_a_replica()
    master = pair.master
    master.kill()
    pair.until_another_is_master(master)
    master.start()


def frozen(pair: WatchedPair) -> None:
    """Failed over while it is frozen; then it goes on, and takes itself for the master still."""
    pair.until_it_has_a_replica()
    master = pair.master
    master.freeze()
    pair.until_another_is_master(master)
    master.thaw()


HARMS = (restarted, emptied, failed_over, frozen)


async def test_whatever_redis_loses_every_change_is_given_once_in_order_or_counted() -> None:
    with ExitStack() as stack:
        pair = WatchedPair(stack)
        heard = Heard(pair.sentinel.address)
        await heard.listen(lambda _: True)  # before the first of them
        async with two_hundred(f"sentinel:{pair.sentinel.server.port}") as processes:
            count = _PROCESSES * _EACH
            await heard.listen(lambda one: one.alive == count)

            for harm in HARMS:
                await to_thread.run_sync(harm, pair)  # while the follower is away
                before = heard.count
                await heard.listen(
                    lambda one, before=before: one.alive == count and one.count > before + 20  # type: ignore[misc]  # bound now
                )

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

        with redis.Redis(port=pair.master.port) as client:
            keys = fleet_keys("chat")
            assert client.hlen(keys.instances) == client.zcard(keys.leases) == count
