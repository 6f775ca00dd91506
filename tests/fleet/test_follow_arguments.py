"""What `follow` refuses, before it asks anything."""

from typing import Any

import pytest

from orchestrator.fleet import follow, follow_sentinel
from orchestrator.fleet._cursor import decode_cursor, encode_cursor

URL = "redis://127.0.0.1:1"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"service": "a b"}, "the service's name must be"),
        ({"service": ""}, "the service's name must be"),
        ({"cursor": "x"}, "cursor is none of this version"),
        ({"cursor": "1.x"}, "cursor is damaged"),
        ({"group": ""}, "group must be a name"),
        ({"group": "a\nb"}, "group must be a name"),
        ({"group": "a", "cursor": encode_cursor("1-0", {})}, "leave the cursor out"),
        ({"connect_seconds": -1}, "connect_seconds"),
        ({"connect_seconds": float("nan")}, "connect_seconds"),
        ({"url": "http://127.0.0.1"}, "must begin with redis://"),
        ({"url": "redis://:pa#ss@h:port/0"}, "the Redis URL is malformed"),
    ],
)
def test_a_bad_argument_is_refused_at_once(arguments: dict[str, Any], words: str) -> None:
    given = {"url": URL, "service": "chat"} | arguments
    with pytest.raises(ValueError, match=words):
        follow(given.pop("url"), **given)


@pytest.mark.parametrize("name", ["url", "service", "cursor", "group"])
def test_a_value_of_another_type_is_refused(name: str) -> None:
    given: dict[str, Any] = {"url": URL, "service": "chat", name: 7}
    with pytest.raises(TypeError, match="not int"):
        follow(given.pop("url"), **given)


@pytest.mark.parametrize(
    ("sentinels", "name", "error"),
    [
        ([], "mymaster", ValueError),
        ([("sentinel-1", 26379)], "", ValueError),
        ([("a b", 26379)], "mymaster", ValueError),
        (["sentinel-1"], "mymaster", TypeError),
        ([("sentinel-1", 26379)], 7, TypeError),
    ],
)
def test_sentinels_that_cannot_be_are_refused_at_once(
    sentinels: Any, name: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        follow_sentinel(sentinels, name, service="chat")


def test_no_part_of_a_url_is_in_the_error() -> None:
    with pytest.raises(ValueError, match="percent-encode") as caught:
        follow("redis://:s3cret@host:s3cret/0", service="chat")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_cursor_is_read_back() -> None:
    seen = {f"chat-{number}.0011223344556677": number for number in range(1000)}
    cursor = encode_cursor("1764162131123-4", seen)
    assert decode_cursor(cursor) == ("1764162131123-4", seen)
    assert cursor.isascii()


@pytest.mark.parametrize(
    "told",
    ['["x",{}]', '["1-0",[]]', '["1-0",{"a":"b"}]', "[]", "5", '["1-0",{"a":true}]', "[" * 9000],
)
def test_a_forged_cursor_is_refused(told: str) -> None:
    import base64
    import zlib

    forged = base64.urlsafe_b64encode(zlib.compress(told.encode())).decode()
    with pytest.raises(ValueError, match="damaged"):
        decode_cursor(f"1.{forged}")
