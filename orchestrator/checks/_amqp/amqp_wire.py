"""The part of AMQP 0-9-1 that a login and a question need: frames, and eight methods.

From the specification, sections 2.3 and 4.2
(https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf), with the numbers of
https://www.rabbitmq.com/amqp-0-9-1-reference.html. The server's tables are skipped by their length.
"""

import struct
from collections.abc import Mapping
from enum import Enum

from orchestrator._probing.deadline_stream import DeadlineStream
from orchestrator._probing.protocol_fault import ProtocolFault

HEADER = b"AMQP\x00\x00\x09\x01"

_FRAME = struct.Struct(">BHI")
_METHOD_FRAME, _HEARTBEAT_FRAME = 1, 8
_FRAME_END = b"\xce"
_MOST_FRAME_BYTES = 128 * 1024
"""RabbitMQ's own `frame_max`; a server's greeting may have 4,096 in theory, and has 500."""

_TLS_ALERT = 0x15


class Method(Enum):
    """Class and method."""

    START = (10, 10)
    START_OK = (10, 11)
    TUNE = (10, 30)
    TUNE_OK = (10, 31)
    OPEN = (10, 40)
    OPEN_OK = (10, 41)
    CLOSE = (10, 50)
    CHANNEL_OPEN = (20, 10)
    CHANNEL_OPEN_OK = (20, 11)
    CHANNEL_CLOSE = (20, 40)
    CHANNEL_CLOSE_OK = (20, 41)


class Arguments:
    """The arguments of a method, read one after the other.

    Raises:
        ProtocolFault: When there are fewer than there must be.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        data = self._data[self._at : self._at + size]
        self._at += size
        if len(data) < size:
            raise not_amqp()
        return data

    def number(self, size: int) -> int:
        """An unsigned number of so many bytes."""
        return int.from_bytes(self.take(size))

    def short_string(self) -> bytes:
        """A string with a length of one byte."""
        return self.take(self.number(1))

    def long_string(self) -> bytes:
        """A string with a length of four bytes; a table is one, too."""
        return self.take(self.number(4))


def receive_method(stream: DeadlineStream) -> tuple[Method | None, Arguments]:
    """The next method, `None` if it is not in `Method`, and its arguments.

    Raises:
        ProtocolFault: When what comes is no frame of AMQP 0-9-1.
    """
    while True:
        start = stream.read(1)
        if start[0] == _TLS_ALERT:
            reason = "{where} expects TLS: begin the URL with amqps://"
            raise ProtocolFault("TlsMismatch", reason, permanent=True)
        if start == b"A":
            raise _other_version(stream)
        if start[0] not in (_METHOD_FRAME, _HEARTBEAT_FRAME):
            raise not_amqp()
        kind, _channel, size = _FRAME.unpack(start + stream.read(_FRAME.size - 1))
        if size > _MOST_FRAME_BYTES:
            raise not_amqp()
        payload = stream.read(size)
        if stream.read(1) != _FRAME_END:
            raise not_amqp()
        if kind == _METHOD_FRAME:
            arguments = Arguments(payload)
            numbers = (arguments.number(2), arguments.number(2))
            known = {method.value: method for method in Method}
            return known.get(numbers), arguments


def _other_version(stream: DeadlineStream) -> ProtocolFault:
    """A server that refuses a version answers with the header of one that it speaks."""
    if stream.read(3) != HEADER[1:4]:
        return not_amqp()
    reason = "{where} speaks another version of AMQP: this check speaks 0-9-1, as RabbitMQ does"
    return ProtocolFault("InvalidResponse", reason, permanent=True)


def not_amqp() -> ProtocolFault:
    """What came is no AMQP."""
    reason = "{where} is not an AMQP broker: it speaks another protocol"
    return ProtocolFault("InvalidResponse", reason, permanent=True)


def frame(method: Method, arguments: bytes = b"", channel: int = 0) -> bytes:
    """A method, ready to be sent."""
    payload = struct.pack(">HH", *method.value) + arguments
    return _FRAME.pack(_METHOD_FRAME, channel, len(payload)) + payload + _FRAME_END


def short(text: bytes) -> bytes:
    """A string with a length of one byte."""
    return bytes([len(text)]) + text


def long(data: bytes) -> bytes:
    """A string with a length of four bytes."""
    return struct.pack(">I", len(data)) + data


def table(items: Mapping[str, bytes | bool | Mapping[str, bool]]) -> bytes:
    """A table of texts, flags and tables of flags."""
    fields = b""
    for name, value in items.items():
        fields += short(name.encode())
        match value:
            case bool():
                fields += b"t" + bytes([value])
            case bytes():
                fields += b"S" + long(value)
            case _:
                fields += b"F" + table(value)
    return long(fields)
