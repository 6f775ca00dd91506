"""Replies are used once their type, length and characters are known, and not before."""

import resource
import sys

import anyio
import pytest

from orchestrator.redis import Expect, RedisProbe
from states import Failure
from tests.redis_server import BY_REDIS_PY, FakeServer, greeted_then, saying

pytestmark = pytest.mark.anyio

either_reader = pytest.mark.parametrize("option", ["", BY_REDIS_PY], ids=["ours", "redis-py's"])

PLANTED = "hunter2"
HAPPY = b"+PONG\r\n"


def bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


def found(host: bytes, port: bytes) -> bytes:
    return b"*2\r\n" + host + port


PORT = bulk(b"6379")
HOST = bulk(b"127.0.0.1")

SENTINELS_SAY = {
    "a number for the host": found(b":1500000000\r\n", PORT),
    "a number below 0": found(b":-1\r\n", PORT),
    "a number of many digits": found(b":" + b"9" * 400 + b"\r\n", PORT),
    "escapes and a secret": found(bulk(b"\x1b[2J\x1b[31mpassword=hunter2\nready -> FORGED"), PORT),
    "a secret": found(bulk(b"hunter2@host"), PORT),
    "a long host": found(bulk(b"a" * 200_000), PORT),
    "NUL in the host": found(bulk(b"a\0b"), PORT),
    "no host": found(bulk(b""), PORT),
    "a blank host": found(bulk(b" "), PORT),
    "no UTF-8": found(bulk(b"\xff\xfe"), PORT),
    "a path": found(bulk(b"/run/redis.sock"), PORT),
    "a URL": found(bulk(b"redis://hunter2"), PORT),
    "a host in other letters": found(bulk("hôte".encode()), PORT),
    "a list for the host": found(b"*1\r\n:5\r\n", PORT),
    "null for the host": found(b"$-1\r\n", PORT),
    "an error for the host": found(b"-ERR hunter2\r\n", PORT),
    "a port that is too large": found(HOST, bulk(b"99999")),
    "a port below 0": found(HOST, bulk(b"-1")),
    "port 0": found(HOST, bulk(b"0")),
    "a port of 5000 digits": found(HOST, bulk(b"9" * 5000)),
    "a port in other digits": found(HOST, bulk("٦٣٧٩".encode())),
    "a port with spaces": found(HOST, bulk(b" 6379 ")),
    "a port with underscores": found(HOST, bulk(b"6_379")),
    "a number for the port": found(HOST, b":6379\r\n"),
    "one": b"*1\r\n" + HOST,
    "three": b"*3\r\n" + HOST + PORT + PORT,
    "none": b"*0\r\n",
    "a text": b"+127.0.0.1:6379\r\n",
    "a number": b":6379\r\n",
}


async def asked(probe: RedisProbe) -> Failure:
    """How an attempt fails, when redis-py is loaded."""
    try:
        result = await probe.attempt(10.0)
    finally:
        await probe.aclose()
    assert result.failure is not None
    for text in (result.failure.reason, result.failure.error_type):
        assert text.isprintable()
        assert len(text) < 300
        assert PLANTED not in text
    return result.failure


@either_reader
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("reply", SENTINELS_SAY.values(), ids=SENTINELS_SAY)
async def test_a_sentinel_s_reply_is_an_address_or_no_answer(
    reply: bytes, protocol: int, option: str
) -> None:
    talk = saying(reply) if protocol == 2 else greeted_then(reply)
    url = f"redis://?protocol={protocol}&{option}"
    with FakeServer(talk) as server:
        sentinels = [("127.0.0.1", server.port)]
        probe = RedisProbe.from_sentinel(sentinels, "mymaster", url=url, sentinel_url=url)
        failure = await asked(probe)
    assert failure.error_type in ("WrongAnswer", "InvalidResponse")


CLUSTERS_SAY = {
    "a state that only begins like a good one": bulk(b"cluster_state:okay\r\n"),
    "a good state in the middle of a line": bulk(b"x_cluster_state:ok\r\n"),
    "two states": bulk(b"cluster_state:ok\r\ncluster_state:fail\r\n"),
    "an unknown state": bulk(b"cluster_state:hunter2\r\n"),
    "no state": bulk(b"cluster_size:3\r\n"),
    "a list": b"*1\r\n" + bulk(b"cluster_state:ok"),
    "a number": b":1\r\n",
    "null": b"$-1\r\n",
}


@either_reader
@pytest.mark.parametrize("reply", CLUSTERS_SAY.values(), ids=CLUSTERS_SAY)
async def test_a_cluster_says_that_it_is_well_or_is_not(reply: bytes, option: str) -> None:
    with FakeServer(saying(HAPPY + reply)) as server:
        url = f"redis://127.0.0.1:{server.port}?protocol=2&{option}"
        failure = await asked(RedisProbe(url, expect=Expect(cluster=True)))
    assert failure.error_type == "WrongAnswer"


ROLES = {
    "a number": b"*1\r\n:1\r\n",
    "a list in a list": b"*1\r\n*1\r\n" + bulk(b"master"),
    "a text": b"+master\r\n",
    "none": b"*0\r\n",
    "null": b"*-1\r\n",
    "another": b"*1\r\n" + bulk(b"hunter2"),
    "an error in its place": b"*1\r\n-ERR hunter2\r\n",
}


@either_reader
@pytest.mark.parametrize("reply", ROLES.values(), ids=ROLES)
async def test_a_server_says_that_it_is_a_master_or_is_none(reply: bytes, option: str) -> None:
    with FakeServer(saying(HAPPY + reply)) as server:
        url = f"redis://127.0.0.1:{server.port}?protocol=2&{option}"
        failure = await asked(RedisProbe(url, expect=Expect(role="master")))
    assert failure.error_type == "WrongAnswer"


GREETINGS = {
    "a list": b"*1\r\n+x\r\n",
    "a text": b"+OK\r\n",
    "null": b"_\r\n",
    "an empty map": b"%0\r\n",
    "a map in a map's key": b"%1\r\n%1\r\n+a\r\n+b\r\n+c\r\n",
    "pushes without end": b">1\r\n+hunter2\r\n" * 20_000,
    "nested without end": b"%1\r\n" * 50_000,
    "a line without end": b"+" + b"hunter2" * 100_000,
    "an error of another kind": b"-MOVED hunter2\r\n",
}


@either_reader
@pytest.mark.parametrize("reply", GREETINGS.values(), ids=GREETINGS)
async def test_a_greeting_of_any_kind_is_a_failure_in_our_own_words(
    reply: bytes, option: str
) -> None:
    with FakeServer(saying(reply)) as server:
        failure = await asked(RedisProbe(f"redis://127.0.0.1:{server.port}?protocol=3&{option}"))
    assert "unexpectedly" not in failure.reason


ENDLESS = {
    "a bulk of 1.5 GB": b"$1500000000\r\nab",
    "an array of two billions": b"*2000000000\r\n" + b"+x\r\n" * 200_000,
    "a map of two billions": b"%2000000000\r\n" + b"+x\r\n" * 200_000,
    "arrays in arrays": b"*1\r\n" * 200_000,
    "a line": b"+" + b"x" * 2_000_000,
    "an error": b"-ERR " + b"x" * 2_000_000,
    "a number": b":" + b"9" * 2_000_000,
}


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@either_reader
@pytest.mark.parametrize("reply", ENDLESS.values(), ids=ENDLESS)
async def test_no_length_that_a_server_names_takes_memory(reply: bytes, option: str) -> None:
    with FakeServer(saying(reply)) as server:
        before = _peak_bytes()
        for protocol in (2, 3):
            probe = RedisProbe(f"redis://127.0.0.1:{server.port}?protocol={protocol}&{option}")
            result = await probe.attempt(0.5)
            await probe.aclose()
            await anyio.lowlevel.checkpoint()
            assert result.failure is not None
        assert _peak_bytes() - before < 100 << 20
