"""Replies of RESP beside redis-py's own reader, and in whatever pieces they come."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import redis
from hypothesis import strategies as st
from redis._parsers import Encoder, _RESP2Parser, _RESP3Parser

from orchestrator.redis._error_replies import ErrorReply
from orchestrator.redis._errors import NotRedisError
from orchestrator.redis._resp import RESP2, RESP3, ReplyReader
from tests.fuzz.replies import talks, values
from tests.fuzz.subject import Subject

_MOST_REPLIES = 6
_WHOLE_DOUBLE = re.compile(rb",[+-]?\d+(\.0*)?([eE]\+?\d+)?\r\n")


class _Said(NamedTuple):
    """What a server says, in which version, and how it comes in pieces."""

    talk: bytes
    version: int
    sizes: list[int]


class _Wire:
    """Stands in for a socket, for either reader."""

    def __init__(self, said: _Said, sizes: list[int]) -> None:
        self._data = said.talk
        self._sizes = sizes
        self.bytes_left = 256 * 1024

    def recv(self, size: int) -> bytes:
        most = min(size, self._sizes.pop(0) if self._sizes else size)
        piece, self._data = self._data[:most], self._data[most:]
        self.bytes_left -= len(piece)
        return piece

    def recv_into(self, buffer: memoryview) -> int:
        piece = self.recv(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def settimeout(self, _seconds: float | None) -> None: ...


class _Connection:
    """What redis-py's readers want of their connection."""

    socket_timeout = None
    encoder = Encoder("utf-8", "strict", False)  # type: ignore[no-untyped-call]  # redis-py's

    def __init__(self, wire: _Wire) -> None:
        self._sock = wire


def _by_us(said: _Said, sizes: list[int]) -> list[object]:
    reader = ReplyReader(_Wire(said, sizes), said.version)
    found: list[object] = []
    while len(found) < _MOST_REPLIES:
        try:
            found.append(_plain(reader.read()))
        except ErrorReply as error:
            found.append(_plain(error))
        except (NotRedisError, ConnectionResetError):
            break
    return found


def _by_redis_py(said: _Said, number: int) -> list[object]:
    kind = _RESP2Parser if said.version == RESP2 else _RESP3Parser
    parser = kind(65_536)
    parser.on_connect(_Connection(_Wire(said, [])))  # type: ignore[no-untyped-call]  # redis-py's
    found: list[object] = []
    while len(found) < number:
        try:
            found.append(_plain(parser.read_response()))
        except redis.ResponseError as error:
            found.append(_plain(error))
        except Exception:  # it is no reply, or one after which redis-py closes
            break
    return found


def _plain(value: object) -> object:
    """A value in a form in which both readers say the same."""
    match value:
        case Exception():
            return "an error"
        case list():
            return [_plain(item) for item in value]
        case dict():
            asked_for = {key: item for key, item in value.items() if isinstance(key, bytes | int)}
            return {key: _plain(item) for key, item in asked_for.items()}
        case set():
            return {_plain(item) for item in value}
        case float():
            return repr(value)  # what is no number is not equal to itself
        case _:
            return value


def _is_same(ours: object, theirs: object) -> bool:
    match theirs:
        case set():  # redis-py 5.0 makes one of what RESP3 calls a set, and loses its order
            return isinstance(ours, list) and set(ours) == theirs
        case list():
            return (
                isinstance(ours, list)
                and len(ours) == len(theirs)
                and all(map(_is_same, ours, theirs))
            )
        case dict():
            return (
                isinstance(ours, dict)
                and ours.keys() == theirs.keys()
                and all(_is_same(ours[key], item) for key, item in theirs.items())
            )
        case _:
            return ours == theirs


def _check(_place: None, said: _Said) -> None:
    whole = _by_us(said, [])
    assert _by_us(said, list(said.sizes)) == whole, "it matters how it comes"
    if said.version == RESP3 and b"-1" in said.talk:
        return  # redis-py takes a length below 0 for one
    if said.version == RESP3 and b"%" in said.talk and _WHOLE_DOUBLE.search(said.talk):
        return  # redis-py takes 1 and 1.0 for one key of a map
    theirs = _by_redis_py(said, len(whole))
    assert _is_same(whole[: len(theirs)], theirs), "redis-py reads it otherwise"


@contextmanager
def _opened() -> Iterator[None]:
    yield


READS_REPLIES = Subject(
    "replies beside redis-py's reader",
    st.builds(
        _Said,
        st.one_of(talks, st.lists(values, max_size=4).map(b"".join)),
        st.sampled_from([RESP2, RESP3]),
        st.lists(st.integers(1, 40), max_size=30),
    ),
    _opened,
    _check,
)
