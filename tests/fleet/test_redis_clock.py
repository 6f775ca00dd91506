"""Instances whose clocks are wrong, and what they tell of when something happened."""

import time
from functools import partial

import pytest
import redis

from orchestrator.fleet import _own_messages
from orchestrator.fleet._redis_clock import RedisClock
from tests.faults.scenes import wait_until
from tests.fleet.published import KEYS, Published, admin, publishing
from tests.fleet.published import told as told_to
from tests.redis_server import RedisServer

_DAY = 86_400.0


@pytest.mark.parametrize("days", [-366, -1, 30])
def test_what_is_told_is_dated_by_the_clock_of_redis(
    days: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time
    with RedisServer() as server, admin(server) as client, monkeypatch.context() as wrong:
        wrong.setattr(time, "time", lambda: now() + days * _DAY)
        wrong.setattr(time, "time_ns", lambda: int((now() + days * _DAY) * 1e9))
        began_at = now()
        with publishing(server.url) as one:
            one.change(3)
            one.until_told()
            state = one.state_in(client)
            dates = [float(fields["at"]) for _, fields in client.xrange(KEYS.events)]
        assert told_to(client) == [1, 2, 3]
    for at in (*dates, state.entry.at, state.started_at):
        assert began_at - 2 < at < now() + 10  # the changes are at seconds 1 to 3 of the start-up


def _is_renewed(client: "redis.Redis", one: Published, lease: object) -> bool:
    return client.zscore(KEYS.leases, one.incarnation) != lease


def test_a_clock_that_is_set_meanwhile_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_own_messages, "_BEAT_SECONDS", 0.05)
    now = time.time
    with RedisServer() as server, admin(server) as client, publishing(server.url) as one:
        one.change()
        one.until_told()
        before = one.state_in(client).started_at
        monkeypatch.setattr(time, "time", lambda: now() + _DAY)
        for _ in range(3):  # between them, there are beats
            one.change()
            one.until_told()
            lease = client.zscore(KEYS.leases, one.incarnation)
            wait_until(partial(_is_renewed, client, one, lease))
        assert one.state_in(client).started_at == before


@pytest.mark.parametrize(
    ("redis_now", "ahead_seconds"),
    [
        (b"1000.4", 0.0),
        (b"998.5", 0.0),
        (b"1100.0", 99.5),
        (b"10.0", -990.5),
        (b"inf", 0.0),
        (b"nan", 0.0),
        (b"garbage", 0.0),
        (b"", 0.0),
    ],
)
def test_only_clocks_that_disagree_are_corrected(redis_now: bytes, ahead_seconds: float) -> None:
    clock = RedisClock()
    clock.compare(redis_now, 1000.0, 1001.0)
    assert clock.ahead_seconds == ahead_seconds
    clock.compare(b"1000.5", 1000.0, 1001.0)
    assert clock.ahead_seconds == 0
