"""The part of PostgreSQL's protocol 3.0 that a login and a query need.

https://www.postgresql.org/docs/current/protocol-message-formats.html; the codes of errors are in
https://www.postgresql.org/docs/current/errcodes-appendix.html. Only an error's code is read: the
rest is text in the server's language. PgBouncer has one code for everything, and always speaks
English, so with that code the text is searched for some words, and never shown.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from orchestrator._probing.deadline_stream import DeadlineStream
from orchestrator._probing.protocol_fault import ProtocolFault

SSL_REQUEST = struct.pack(">II", 8, 80877103)
_PROTOCOL = 196608
TERMINATE = b"X\x00\x00\x00\x04"

_KINDS = frozenset(b"RSKZEN1234CDInstTvA")
_MOST_MESSAGE_BYTES = 64 * 1024


def startup(parameters: Mapping[str, str]) -> bytes:
    """The first message."""
    pairs = b"".join(text(part) for pair in parameters.items() for part in pair)
    return _sized(struct.pack(">I", _PROTOCOL) + pairs + b"\0")


def message(kind: bytes, body: bytes) -> bytes:
    """Any later message."""
    return kind + _sized(body)


def _sized(body: bytes) -> bytes:
    return struct.pack(">I", len(body) + 4) + body


def text(value: str) -> bytes:
    """A string, with the null byte that ends it."""
    return value.encode("utf-8", "surrogateescape") + b"\0"


def receive_message(stream: DeadlineStream) -> tuple[bytes, bytes]:
    """The next message: its kind and its body.

    Raises:
        ProtocolFault: When what comes is not a message.
    """
    kind = stream.read(1)
    if kind[0] not in _KINDS:
        raise not_postgres()
    size = int.from_bytes(stream.read(4)) - 4
    if not 0 <= size <= _MOST_MESSAGE_BYTES:
        raise not_postgres()
    return kind, stream.read(size)


def first_column(row: bytes) -> bytes:
    """The first value of a DataRow; empty for null, or nothing."""
    size = int.from_bytes(row[2:6], signed=True)
    return row[6 : 6 + max(size, 0)]


def not_postgres() -> ProtocolFault:
    """The fault of a server that does not speak PostgreSQL's protocol."""
    reason = "{where} is not PostgreSQL: it speaks another protocol"
    return ProtocolFault("InvalidResponse", reason, permanent=True)


def wrong_answer() -> ProtocolFault:
    """The fault of a server that speaks it, but says what is not due."""
    reason = "{where} answered, but not as PostgreSQL does: is it a proxy?"
    return ProtocolFault("WrongAnswer", reason, permanent=True)


class _Meaning(NamedTuple):
    error_type: str
    said: str
    permanent: bool = False
    congestion: bool = False


_CODES: Mapping[str, _Meaning] = {
    "08P01": _Meaning(
        "ProtocolViolation",
        "refused with the code of a protocol violation, as poolers do: check user, password and"
        " database there, and whether it reaches its server",
    ),
    "0A000": _Meaning("NotSupported", "does not support what was asked for", permanent=True),
    "22023": _Meaning("BadOptions", "does not take the options of the DSN", permanent=True),
    "28000": _Meaning(
        "AuthenticationError",
        "does not let this user in: check pg_hba.conf, and that the role exists and may log in",
        permanent=True,
    ),
    "28P01": _Meaning("AuthenticationError", "rejected the user or the password", permanent=True),
    "3D000": _Meaning("UnknownDatabase", "has no such database", permanent=True),
    "42501": _Meaning("NoPermission", "does not let this user into the database", permanent=True),
    "42704": _Meaning("BadOptions", "does not know the options of the DSN", permanent=True),
    "53100": _Meaning("DiskFull", "has no disk space left"),
    "53200": _Meaning("OutOfMemory", "has no memory left", congestion=True),
    "53300": _Meaning(
        "TooManyConnections", "has as many connections as it allows", congestion=True
    ),
    "55000": _Meaning("DatabaseClosed", "takes no connections to this database", permanent=True),
    "57014": _Meaning("QueryCanceled", "cancelled the question"),
    "57P01": _Meaning("ShutDown", "ended the connection: it is shutting down, or someone did"),
    "57P02": _Meaning("CrashShutdown", "ended the connection: another of its processes crashed"),
    "57P03": _Meaning("CannotConnectNow", "is starting up, shutting down or recovering"),
    "57P04": _Meaning("UnknownDatabase", "has dropped the database", permanent=True),
    "57P05": _Meaning("IdleSessionTimeout", "ended the idle connection"),
    "58000": _Meaning("SystemError", "has a system error, or is a pooler without its server"),
}

_POOLER = "08P01"
_OF_POOLERS = (
    (b"unsupported startup parameter", "22023"),
    (b"no such database", "3D000"),
    (b"no such user", "28P01"),
    (b"authentication failed", "28P01"),
    (b"no more connections allowed", "53300"),
    (b"login has been failing", "58000"),
    (b"cannot connect to server", "58000"),
    (b"query_wait_timeout", "58000"),
)
"""What PgBouncer says, and PostgreSQL's own code for that, or the nearest one."""

_CLASSES = {
    "08": "a connection exception (class 08)",
    "25": "an invalid transaction state (class 25)",
    "28": "an invalid authorization (class 28)",
    "42": "an access rule violation (class 42)",
    "53": "insufficient resources (class 53)",
    "54": "a limit that is exceeded (class 54)",
    "55": "a prerequisite that is missing (class 55)",
    "57": "an operator's intervention (class 57)",
    "58": "a system error (class 58)",
    "F0": "an error in its configuration (class F0)",
    "XX": "an internal error (class XX)",
}


class PostgresError(ProtocolFault):
    """The server has sent an error.

    Attributes:
        code: Its SQLSTATE, for comparison only.
    """

    def __init__(self, body: bytes) -> None:
        fields = {field[:1]: field[1:] for field in body.split(b"\0")}
        self.code = fields.get(b"C", b"").decode("ascii", "replace")
        if self.code == _POOLER:
            said = fields.get(b"M", b"")
            self.code = next((code for words, code in _OF_POOLERS if words in said), _POOLER)
        default = _CLASSES.get(self.code[:2], "an error that is not known here")
        meaning = _CODES.get(self.code) or _Meaning("PostgresError", f"answered with {default}")
        super().__init__(
            meaning.error_type,
            f"{{where}} {meaning.said}",
            permanent=meaning.permanent,
            congestion=meaning.congestion,
        )
