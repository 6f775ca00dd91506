"""RESP, the protocol of Redis, in versions 2 and 3: commands to bytes, and bytes to replies.

A reply is believed only as far as it is one: kind, length and number are strict, and so is the end
of each line. What comes is bounded: lines and nesting here, and the whole by the socket, which
reads no more than an attempt may. So no length that a server names takes memory or time before the
bytes are there.

What replies look like: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final, Protocol

from orchestrator.redis._error_replies import ErrorReply
from orchestrator.redis._errors import NotRedisError

_READ_BYTES = 4096

_MOST_LINE_BYTES = 16 * 1024
"""The longest error replies have some hundred bytes."""

_MOST_DEPTH = 8
"""HELLO's reply has 4: modules in a list in a map, with their arguments."""

_MOST_DIGITS_OF_COUNT, _MOST_DIGITS, _MOST_DIGITS_OF_BIG_NUMBER = 9, 19, 4000
"""A count is bounded by what may be read, a number by 64 bits, a big one by what Python reads."""

_OF_DOUBLES = b"0123456789+-.eE"
_NO_NUMBERS = (b"inf", b"+inf", b"-inf", b"nan")

_NULL = b"-1"
"""The length of what is not there, in RESP2."""

_PUSHED: Final = object()
"""What was pushed is no reply."""

RESP2, RESP3 = 2, 3

_Read = Callable[["ReplyReader", bytes, int], object]
"""Reads a value, from the rest of its line and from what follows; with its depth."""


def packed(words: Sequence[object]) -> bytes:
    """A command as Redis reads it.

    Args:
        words: Its name and its arguments: text, bytes or whole numbers.

    Raises:
        UnicodeEncodeError: When an argument has characters that are no text.
    """
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class ByteSource(Protocol):
    """What replies are read from: a `ReplySocket`.

    Attributes:
        bytes_left: How much may still be read.
    """

    bytes_left: int

    def recv(self, size: int) -> bytes:
        """What there is, `size` bytes at most; empty once the other side has closed."""


class ReplyReader:
    """Reads replies from a socket, one after the other.

    What was read of a reply that did not come as a whole is kept: the next call reads it again from
    its beginning.

    Args:
        sock: The socket.
        version: Of the protocol, 2 or 3. Kinds of replies that only RESP3 has are no replies of 2.
    """

    def __init__(self, sock: ByteSource, version: int) -> None:
        self._sock = sock
        self._kinds = self._of_resp2 if version == RESP2 else self._of_resp3
        self._buffer = bytearray()
        self._position = 0

    @property
    def holds_more(self) -> bool:
        """Whether more has been read than was asked for."""
        return bool(self._buffer)

    def read(self) -> object:
        """The next reply: `bytes` for any text, `int`, `float`, `bool`, `None`, `list` or `dict`.

        What the server pushes in between is passed over.

        Raises:
            ErrorReply: For an error. One inside of another reply is part of it instead.
            NotRedisError: When what comes is no reply.
            ConnectionResetError: When the other side has ended the connection.
            TimeoutError: When it has not come as a whole in time.
        """
        self._position = 0
        reply = self._value(0)
        del self._buffer[: self._position]
        if isinstance(reply, ErrorReply):
            raise reply
        return reply

    # -- one value ---------------------------------------------------------------------------------

    def _value(self, depth: int) -> object:
        if depth > _MOST_DEPTH:
            raise NotRedisError
        value: object = _PUSHED
        while value is _PUSHED:
            line = self._line()
            if (read := self._kinds.get(line[:1])) is None:
                raise NotRedisError
            value = read(self, line[1:], depth)
        return value

    def _simple(self, rest: bytes, _depth: int) -> bytes:
        return rest

    def _error(self, rest: bytes, _depth: int) -> ErrorReply:
        return ErrorReply(rest.decode(errors="replace"))

    def _integer(self, rest: bytes, _depth: int) -> int:
        return _integer(rest, _MOST_DIGITS)

    def _text_or_none(self, rest: bytes, _depth: int) -> bytes | None:
        return None if rest == _NULL else self._text(rest)

    def _items_or_none(self, rest: bytes, depth: int) -> list[object] | None:
        return None if rest == _NULL else self._items(rest, depth)

    def _items(self, rest: bytes, depth: int) -> list[object]:
        return [self._value(depth + 1) for _ in range(self._count(rest))]

    # -- one value of RESP3 alone ------------------------------------------------------------------

    def _null(self, rest: bytes, _depth: int) -> None:
        _require(not rest)

    def _boolean(self, rest: bytes, _depth: int) -> bool:
        _require(rest in (b"t", b"f"))
        return rest == b"t"

    def _double(self, rest: bytes, _depth: int) -> float:
        _require(rest in _NO_NUMBERS or not rest.translate(None, _OF_DOUBLES))
        try:
            return float(rest)
        except ValueError:
            raise NotRedisError from None

    def _big_number(self, rest: bytes, _depth: int) -> int:
        return _integer(rest, _MOST_DIGITS_OF_BIG_NUMBER)

    def _long_error(self, rest: bytes, _depth: int) -> ErrorReply:
        return self._error(self._text(rest), 0)

    def _verbatim(self, rest: bytes, _depth: int) -> bytes:
        text = self._text(rest)
        _require(text[3:4] == b":")
        return text[4:]

    def _map(self, rest: bytes, depth: int) -> dict[object, object]:
        found: dict[object, object] = {}
        for _ in range(self._count(rest)):
            key = self._value(depth + 1)
            value = self._value(depth + 1)
            if isinstance(key, bytes | int):  # no one asks for others
                found[key] = value
        return found

    def _push(self, rest: bytes, depth: int) -> object:
        _require(not depth)
        self._items(rest, depth)
        return _PUSHED

    _of_resp2: ClassVar[Mapping[bytes, _Read]] = {
        b"+": _simple,
        b"-": _error,
        b":": _integer,
        b"$": _text_or_none,
        b"*": _items_or_none,
    }
    _of_resp3: ClassVar[Mapping[bytes, _Read]] = {
        **_of_resp2,
        b"_": _null,
        b"#": _boolean,
        b",": _double,
        b"(": _big_number,
        b"!": _long_error,
        b"=": _verbatim,
        b"~": _items,
        b"%": _map,
        b">": _push,
    }

    # -- bytes -------------------------------------------------------------------------------------

    def _count(self, rest: bytes) -> int:
        """How many bytes or values follow, each of which takes at least one byte."""
        _require(rest.isdigit() and len(rest) <= _MOST_DIGITS_OF_COUNT)
        _require(rest == b"0" or not rest.startswith(b"0"))
        count = int(rest)
        if count > len(self._buffer) - self._position + self._sock.bytes_left:
            raise NotRedisError
        return count

    def _line(self) -> bytes:
        start = self._position
        while (end := self._buffer.find(b"\n", start)) < 0:
            if len(self._buffer) - start > _MOST_LINE_BYTES:
                raise NotRedisError
            self._fill()
        line = bytes(self._buffer[start:end])
        if len(line) > _MOST_LINE_BYTES or not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise NotRedisError
        self._position = end + 1
        return line[:-1]

    def _text(self, rest: bytes) -> bytes:
        start = self._position
        end = start + self._count(rest)
        while len(self._buffer) < end + 2:
            self._fill()
        if self._buffer[end : end + 2] != b"\r\n":
            raise NotRedisError
        self._position = end + 2
        return bytes(self._buffer[start:end])

    def _fill(self) -> None:
        data = self._sock.recv(_READ_BYTES)
        if not data:
            raise ConnectionResetError
        self._buffer += data


def _require(holds: object) -> None:
    if not holds:
        raise NotRedisError


def _integer(text: bytes, most_digits: int) -> int:
    digits = text[1:] if text[:1] in (b"+", b"-") else text
    _require(digits.isdigit() and len(digits) <= most_digits)
    return int(text)
