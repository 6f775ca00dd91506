"""The two scripts on real servers: what follows on the mark is appended, and nothing else."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from orchestrator.fleet._encode import encode_entry
from orchestrator.fleet._scripts import ADOPT, APPEND, BEAT
from orchestrator.fleet._wire import ENTRY_FIELDS, fleet_keys
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS
from tests.fleet.test_wire import ENTRY
from tests.redis_server import RedisServer

KEYS = fleet_keys("chat")
ME = ENTRY.incarnation


@pytest.fixture(scope="module", params=EACH_PROGRAM)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with RedisServer(binary=PROGRAMS[request.param]) as started:
        yield started


class Asked:
    """A real server, on which only the scripts write."""

    def __init__(self, client: "redis.Redis") -> None:
        self.client = client

    def append(self, mark: int, *sequences: int, state: str = "{}") -> object:
        entries = (encode_entry(replace(ENTRY, sequence=sequence)) for sequence in sequences)
        words = [word for entry in entries for word in entry]
        last = sequences[-1] if sequences else mark
        keys = (KEYS.instances, KEYS.events)
        arguments = (ME, mark, last, state, 10_000, 2 * len(ENTRY_FIELDS), *words)
        return self.client.eval(APPEND, 2, *keys, *map(str, arguments))

    def beat(self, *state: str, lease: float = 6, keep: float = 600, who: str = ME) -> list[int]:
        arguments = (who, str(lease), str(keep), *state)
        answer = self.client.eval(BEAT, 2, KEYS.instances, KEYS.leases, *arguments)
        assert isinstance(answer, list)
        *counts, redis_now = answer
        assert abs(float(redis_now) - self.client.time()[0]) < 2
        return counts

    @property
    def sequences(self) -> list[int]:
        entries: list[Any] = self.client.xrange(KEYS.events) or []
        return [int(fields["sequence"]) for _, fields in entries]

    @property
    def state(self) -> object:
        return self.client.hget(KEYS.instances, ME)

    @property
    def left_seconds(self) -> float:
        seconds, microseconds = self.client.time()
        score = self.client.zscore(KEYS.leases, ME)
        assert isinstance(score, float)
        return score - seconds - microseconds / 1e6


@pytest.fixture
def asked(server: RedisServer) -> Iterator[Asked]:
    with redis.Redis(port=server.port, decode_responses=True, protocol=2) as client:
        client.flushall()
        yield Asked(client)


def test_what_follows_on_the_mark_is_appended_and_sets_it(asked: Asked) -> None:
    assert asked.append(0, 1, 2, state='{"a":1}') == 2
    assert asked.append(2, 3, state='{"a":2}') == 3
    assert asked.sequences == [1, 2, 3]
    assert asked.state == '3 {"a":2}'


def test_what_does_not_follow_on_the_mark_changes_nothing_and_gets_it(asked: Asked) -> None:
    asked.append(0, 1, 2)
    assert asked.append(0, 1, 2) == 2  # a reply was lost, and all is sent again
    assert asked.append(3, 4) == 2  # Redis has lost the last one
    assert asked.sequences == [1, 2]
    assert asked.state == "2 {}"


def test_a_gap_is_appended_by_naming_the_mark_before_it(asked: Asked) -> None:
    asked.append(0, 1, 2)
    assert asked.append(2, 300, 301) == 301
    assert asked.sequences == [1, 2, 300, 301]


def test_a_state_can_be_written_without_a_change(asked: Asked) -> None:
    asked.append(0, 1)
    assert asked.append(1, state='{"a":2}') == 1
    assert asked.state == '1 {"a":2}'
    assert asked.sequences == [1]


def test_the_stream_keeps_about_as_many_entries_as_it_should(asked: Asked) -> None:
    words = encode_entry(ENTRY)
    for mark in range(0, 1000, 100):
        keys = (KEYS.instances, KEYS.events)
        arguments = (ME, mark, mark + 100, "{}", 300, len(words), *words * 100)
        asked.client.eval(APPEND, 2, *keys, *map(str, arguments))
    assert 300 <= asked.client.xlen(KEYS.events) <= 400


@pytest.mark.parametrize("forged", ["", "x", "99999999999999999999 {}", "-1 {}", " 5"])
def test_a_forged_mark_counts_as_none(asked: Asked, forged: str) -> None:
    asked.client.hset(KEYS.instances, ME, forged)
    assert asked.beat()[0] == 0
    assert asked.append(0, 1) == 1


def test_a_beat_renews_the_lease_in_the_time_of_redis(asked: Asked) -> None:
    asked.append(0, 1)
    assert asked.beat(lease=6) == [1, 1, 0]
    assert 5 < asked.left_seconds <= 6


def test_a_beat_of_one_that_is_stuck_ends_its_lease_now(asked: Asked) -> None:
    asked.beat()
    assert asked.beat(lease=0)[1] == 0
    assert -1 < asked.left_seconds <= 0


def test_a_beat_writes_the_state_only_if_it_is_of_the_mark(asked: Asked) -> None:
    asked.append(0, 1, 2)
    assert asked.beat("1", '{"old":1}')[0] == 2
    assert str(asked.state) == "2 {}"
    asked.beat("2", '{"new":1}')
    assert asked.state == '2 {"new":1}'


def test_a_beat_counts_the_living(asked: Asked) -> None:
    for number in range(3):
        asked.beat(who=f"other.{number}")
    asked.beat(who="ended", lease=-1)
    assert asked.beat() == [0, 4, 0]
    assert asked.beat() == [0, 4, 1]


def test_states_without_a_lease_get_one_that_has_ended_and_so_are_swept(asked: Asked) -> None:
    asked.append(0, 1)
    asked.beat()
    before = asked.client.zscore(KEYS.leases, ME)
    for number in range(3):
        asked.client.hset(KEYS.instances, f"gone.{number}", "1 {}")
    for _ in range(200):  # they are drawn
        asked.client.eval(ADOPT, 2, KEYS.instances, KEYS.leases, "2")
    assert asked.client.zcard(KEYS.leases) == 4
    assert asked.client.zscore(KEYS.leases, ME) == before
    asked.beat(keep=-1)
    assert asked.client.hkeys(KEYS.instances) == [ME]


def test_a_redis_without_states_has_none_to_look_at(asked: Asked) -> None:
    asked.client.eval(ADOPT, 2, KEYS.instances, KEYS.leases, "2")
    assert asked.client.zcard(KEYS.leases) == 0


def test_a_beat_sweeps_what_ended_long_ago_a_few_at_a_time(asked: Asked) -> None:
    for number in range(20):
        asked.client.hset(KEYS.instances, f"gone.{number}", "1 {}")
        asked.client.zadd(KEYS.leases, {f"gone.{number}": 1.0})
    asked.beat(keep=600)
    assert asked.client.zcard(KEYS.leases) == asked.client.hlen(KEYS.instances) + 1 == 5
    asked.client.zadd(KEYS.leases, {"just.now": asked.client.time()[0]})
    asked.beat(keep=600)
    assert asked.client.zrange(KEYS.leases, 0, -1) == ["just.now", ME]
    assert asked.client.hlen(KEYS.instances) == 0
