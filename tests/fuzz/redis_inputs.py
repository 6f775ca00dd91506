"""The replies of Redis, of sentinels and of clusters."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio

from orchestrator.redis import Expect, RedisProbe
from states import Failure
from tests.fuzz.replies import sentinel_talks, talks
from tests.fuzz.reply_reader import READS_REPLIES
from tests.fuzz.servers import Sayer, a_sayer, nothing_but_loopback
from tests.fuzz.subject import PLANTED, Subject, assert_is_a_line
from tests.redis_server import BY_REDIS_PY

_ATTEMPT_SECONDS = 5.0
"""Far more than anything takes here: the server ends each connection."""


@contextmanager
def _opened() -> Iterator[Sayer]:
    with a_sayer() as sayer, nothing_but_loopback():
        yield sayer


def _asked(probe: RedisProbe) -> Failure | None:
    async def ask() -> Failure | None:
        try:
            for _ in range(2):  # a second attempt finds what the first has left
                result = await probe.attempt(_ATTEMPT_SECONDS)
                assert result.latency_seconds < _ATTEMPT_SECONDS
            return result.failure
        finally:
            await probe.aclose()

    return anyio.run(ask)


def _assert_is_clean(failure: Failure | None) -> None:
    if failure is None:
        return
    for text in (failure.reason, failure.error_type):
        assert_is_a_line(text)
        assert PLANTED not in text
    assert "unexpectedly" not in failure.reason, failure.reason


def _check(make: Callable[[int], RedisProbe], *good: bytes) -> Callable[[Sayer, bytes], None]:
    def check(sayer: Sayer, talk: bytes) -> None:
        sayer.reply = talk
        failure = _asked(make(sayer.port))
        _assert_is_clean(failure)
        if failure is None:
            for word in good:
                assert word in talk, "taken for well without a good answer"

    return check


def _plain(port: int) -> RedisProbe:
    return RedisProbe(f"redis://127.0.0.1:{port}?protocol=2")


def _resp3(port: int) -> RedisProbe:
    return RedisProbe(f"redis://user:{PLANTED}@127.0.0.1:{port}/1?protocol=3")


def _by_redis_py(port: int) -> RedisProbe:
    url = f"redis://user:{PLANTED}@127.0.0.1:{port}/1?protocol=3&{BY_REDIS_PY}"
    return RedisProbe(url)


def _node(port: int) -> RedisProbe:
    expect = Expect(cluster=True, role="master")
    return RedisProbe(f"redis://127.0.0.1:{port}?protocol=2", expect=expect)


def _sentinel(port: int) -> RedisProbe:
    url = "redis://?protocol=2"  # without a greeting, so that what is said answers the question
    address = ("127.0.0.1", port)
    return RedisProbe.from_sentinel([address], "mymaster", url=url, sentinel_url=url)


SUBJECTS = (
    Subject("replies of Redis", talks, _opened, _check(_plain, b"PONG")),
    Subject("replies to HELLO and after it", talks, _opened, _check(_resp3, b"PONG")),
    Subject("replies that redis-py reads", talks, _opened, _check(_by_redis_py, b"PONG")),
    Subject(
        "replies of a cluster's node",
        talks,
        _opened,
        _check(_node, b"PONG", b"master", b"cluster_state:ok"),
    ),
    Subject("replies of a sentinel", sentinel_talks, _opened, _check(_sentinel)),
    READS_REPLIES,
)
