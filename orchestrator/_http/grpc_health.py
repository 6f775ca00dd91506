"""The two messages of `grpc.health.v1`, which are small enough to be written by hand.

    message HealthCheckRequest { string service = 1; }
    message HealthCheckResponse { ServingStatus status = 1; }

So neither asking nor answering needs protobuf, whose versions applications pin for themselves.
See https://github.com/grpc/grpc/blob/master/doc/health-checking.md and the encoding of protocol
buffers, https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator
from enum import IntEnum

SERVICE = "grpc.health.v1.Health"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_VARINT_BITS = 64


class ServingStatus(IntEnum):
    """`HealthCheckResponse.ServingStatus`."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


def request_for(service: str) -> bytes:
    """A `HealthCheckRequest`."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def service_of(request: bytes) -> str:
    """The service that a `HealthCheckRequest` asks for.

    Raises:
        ValueError: When it is no such message.
    """
    name = b""
    for number, value in _fields(request):
        if number == 1 and isinstance(value, bytes):
            name = value
    return name.decode()


def response_with(status: ServingStatus) -> bytes:
    """A `HealthCheckResponse`."""
    return b"\x08" + _varint(status) if status else b""


def status_in(response: bytes) -> ServingStatus:
    """What a `HealthCheckResponse` says; `UNKNOWN` for a status that is not known here.

    Raises:
        ValueError: When it is no such message.
    """
    status = 0
    for number, value in _fields(response):
        if number == 1 and isinstance(value, int):
            status = value
    known = status in set(ServingStatus)
    return ServingStatus(status) if known else ServingStatus.UNKNOWN


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:  # noqa: PLR2004  seven bits in each byte
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Each field's number and value; those that are fixed are left out."""
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _read_varint(message, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _read_varint(message, at)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("no field of a message")
        if at + size > len(message):
            raise ValueError("a field ends behind its message")
        if kind == _BYTES:
            yield key >> 3, message[at : at + size]
        at += size


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < _MOST_VARINT_BITS and at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004  the last byte has no eighth bit
            return value, at
    raise ValueError("a number without an end")
