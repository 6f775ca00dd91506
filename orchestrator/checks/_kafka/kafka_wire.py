"""The four requests of the Kafka protocol that a check needs, in their oldest layouts.

A request is a length, a header (key, version, correlation number, name of the client) and a body;
a response is a length, the number again, and a body. All numbers are big-endian. The layouts are
those of https://kafka.apache.org/protocol: `ApiVersions` 0, `Metadata` 1 to 4, `SaslHandshake` 1
and `SaslAuthenticate` 0, which every broker since 1.0 has, and 4.x still has.
"""

import struct
from collections.abc import Callable

from orchestrator._probing.deadline_stream import DeadlineStream

_METADATA, _HANDSHAKE, _API_VERSIONS, _AUTHENTICATE = 3, 17, 18, 36
_NEWEST_METADATA = 4
_CLIENT = b"startup-orchestrator"

_MOST_BYTES = 128 * 1024
_MOST_BROKERS = 10_000

_Raise = Callable[[], Exception]


class KafkaError(Exception):
    """A broker answered with an error code.

    Args:
        code: See the table of error codes in the documentation of the protocol.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class KafkaConversation:
    """Requests and answers on one connection.

    Args:
        stream: The connection.
        wrong_server: Makes the error for what is not a broker's answer.
        wants_tls: Makes the error for one that speaks TLS.
    """

    def __init__(self, stream: DeadlineStream, wrong_server: _Raise, wants_tls: _Raise) -> None:
        self._stream = stream
        self._wrong_server = wrong_server
        self._wants_tls = wants_tls
        self._number = 0

    def metadata_version(self) -> int | None:
        """The version of `Metadata` to ask with; `None` if the broker has none that we know."""
        answer = self._ask(_API_VERSIONS, 0, b"")
        _check(answer.int16())
        for _ in range(answer.count(6)):
            key, least, most = answer.int16(), answer.int16(), answer.int16()
            if key == _METADATA:
                version = min(most, _NEWEST_METADATA)
                return version if version >= max(least, 1) else None
        return None

    def brokers(self, version: int) -> list[tuple[str, int]]:
        """The brokers of the cluster as it advertises them: host and port of each."""
        no_topics = struct.pack(">i", 0)
        creates_none = b"\0" if version == _NEWEST_METADATA else b""
        answer = self._ask(_METADATA, version, no_topics + creates_none)
        if version > 2:  # noqa: PLR2004  from there on, throttling comes first
            answer.int32()
        found = []
        for _ in range(answer.count(4 + 2 + 4 + 2)):
            answer.int32()
            host, port = answer.text(), answer.int32()
            answer.text()
            found.append((host, port))
        return found

    def choose_mechanism(self, mechanism: str) -> None:
        """Begin SASL.

        Raises:
            KafkaError: When the broker has no such mechanism.
        """
        name = mechanism.encode()
        answer = self._ask(_HANDSHAKE, 1, struct.pack(">h", len(name)) + name)
        _check(answer.int16())

    def authenticate(self, token: bytes) -> bytes:
        """Send a token of SASL, and return that of the broker.

        Raises:
            KafkaError: When the broker does not accept it.
        """
        answer = self._ask(_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
        code = answer.int16()
        answer.text()
        _check(code)
        return answer.octets()

    def _ask(self, key: int, version: int, body: bytes) -> "_KafkaFields":
        self._number += 1
        header = struct.pack(">hhih", key, version, self._number, len(_CLIENT)) + _CLIENT
        self._stream.write(struct.pack(">i", len(header) + len(body)) + header + body)
        start = self._stream.read(4)
        if start.startswith(b"\x15\x03"):  # an alert
            raise self._wants_tls()
        size = int.from_bytes(start, "big", signed=True)
        if not 4 <= size <= _MOST_BYTES:  # noqa: PLR2004  the correlation number
            raise self._wrong_server()
        answer = _KafkaFields(self._stream.read(size), self._wrong_server)
        if answer.int32() != self._number:
            raise self._wrong_server()
        return answer


class _KafkaFields:
    """The fields of an answer, one after the other."""

    def __init__(self, data: bytes, wrong_server: _Raise) -> None:
        self._data = data
        self._at = 0
        self._wrong_server = wrong_server

    def int16(self) -> int:
        return int.from_bytes(self._take(2), "big", signed=True)

    def int32(self) -> int:
        return int.from_bytes(self._take(4), "big", signed=True)

    def text(self) -> str:
        """A string; empty for null."""
        try:
            return self._take(max(self.int16(), 0)).decode()
        except UnicodeError:
            raise self._wrong_server() from None

    def octets(self) -> bytes:
        return self._take(max(self.int32(), 0))

    def count(self, least_bytes: int) -> int:
        """How many items follow, of at least so many bytes each."""
        number = self.int32()
        if not 0 <= number <= min(_MOST_BROKERS, (len(self._data) - self._at) // least_bytes):
            raise self._wrong_server()
        return number

    def _take(self, size: int) -> bytes:
        data = self._data[self._at : self._at + size]
        if len(data) != size:
            raise self._wrong_server()
        self._at += size
        return data


def _check(code: int) -> None:
    if code:
        raise KafkaError(code)
