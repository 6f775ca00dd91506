"""What Redis said, in words fit for a person: its error replies to `Failure`.

A reply is either an `ErrorReply`, which the probe has read itself, or an exception of redis-py. For
both it is the code word that counts, and after `ERR` how the text begins. No text of a server is
ever copied, since it may hold anything; only the well-known code words are named.
"""

from orchestrator.redis._errors import NotRedisError
from orchestrator.redis._progress import Situation
from states import Failure, FailureKind
from states._records import record

_TRANSIENT = FailureKind.TRANSIENT
_PERMANENT = FailureKind.PERMANENT

OLD_LOGIN = "AuthenticationWrongNumberOfArgsError"
"""The `error_type` of a server that knows passwords, but no user names."""


class ErrorReply(Exception):
    """An error reply, which the probe has read itself.

    Args:
        line: What Redis said. It is never shown.
    """

    def __init__(self, line: str) -> None:
        super().__init__()
        self.line = line


def is_refusal(error: Exception) -> bool:
    """Whether a plain `ConnectionError` of redis-py is a reply, and not a broken connection."""
    return _meaning_of(_Reply.of_line(str(error))) is not None


def is_passed_over(error: Exception) -> bool:
    """Whether it is an error reply that does not end a connection."""
    if not (isinstance(error, ErrorReply) or _is_of_redis_py(error, "ResponseError")):
        return False
    reply = _reply_of(error)
    meaning = None if reply is None else _meaning_of(reply)
    return meaning is None or not meaning.ends


def of_reply(error: Exception, at: Situation) -> Failure | None:
    """Why an attempt failed, from an error reply; `None` for any other exception."""
    if _is_of_redis_py(error, "InvalidResponse"):
        return NotRedisError().failure(at)
    if (reply := _reply_of(error)) is None:
        return None
    if (meaning := _meaning_of(reply)) is None:
        name = "ResponseError" if isinstance(error, ErrorReply) else type(error).__name__
        return Failure(_TRANSIENT, name, f"{at.where} answered {at.command} with an error ({name})")
    said = meaning.said.replace("{command}", at.command)
    if meaning.error_type == "UnknownCommand" and at.command == "HELLO":
        said = "does not know HELLO: use protocol=2"
    reason = f"{at.where} {said}"
    return Failure(meaning.kind, meaning.error_type, reason, meaning.congestion)


# -- what was said ---------------------------------------------------------------------------------


@record
class _Reply:
    """An error reply.

    Attributes:
        code: Its first word if that is one of the well-known ones; else `ERR`.
        text: What comes after it; everything, where the first word is not well known.
    """

    code: str
    text: str

    @classmethod
    def of_line(cls, line: str) -> "_Reply":
        code, _, text = line.partition(" ")
        return cls(code, text) if code in _CODES or code == "ERR" else cls("ERR", line)


def _reply_of(error: Exception) -> _Reply | None:
    """The reply behind an exception; `None` if there is none."""
    if isinstance(error, ErrorReply):
        return _Reply.of_line(error.line)
    for base in type(error).__mro__:
        if not base.__module__.startswith("redis."):
            continue
        if (code := _CODES_OF_CLASSES.get(base.__name__)) is not None:
            return _Reply(code, str(error))
        if base.__name__ in ("ConnectionError", "ResponseError"):
            return _Reply.of_line(str(error))
    return None


def _is_of_redis_py(error: Exception, name: str) -> bool:
    return any(
        base.__name__ == name and base.__module__.startswith("redis.")
        for base in type(error).__mro__
    )


_CODES_OF_CLASSES = {
    "AuthenticationError": "NOAUTH",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
}
"""redis-py's classes, for which it takes the code word out of the text."""


# -- what that means -------------------------------------------------------------------------------


@record
class _ErrorMeaning:
    """What an error reply means.

    Attributes:
        kind: Whether waiting helps.
        error_type: The `error_type` of the failure.
        said: What is said of the server.
        ends: Whether a client lets go of the connection with it, even where it does not mind that
            the command fails.
        congestion: Whether it is a sign of too many clients.
    """

    kind: FailureKind
    error_type: str
    said: str
    ends: bool = False
    congestion: bool = False


def _meaning_of(reply: _Reply) -> _ErrorMeaning | None:
    if reply.code in ("NOAUTH", "WRONGPASS"):
        return _of_login(reply.text.lower())
    if reply.code != "ERR":
        return _CODES[reply.code]
    for begins, meaning in _TEXTS:
        if reply.text.startswith(begins):
            return meaning
    return None


def _of_login(text: str) -> _ErrorMeaning:
    if "no password is set" in text or "without any password" in text:
        return _PASSWORD_UNWANTED
    if "authentication required" in text or "already authenticated" in text:
        return _PASSWORD_WANTED
    return _LOGIN_REJECTED


_LOGIN = "AuthenticationError"
_PASSWORD_UNWANTED = _ErrorMeaning(
    _PERMANENT,
    _LOGIN,
    "wants no password, but one was given: remove it, or set one there",
    ends=True,
)
_PASSWORD_WANTED = _ErrorMeaning(
    _PERMANENT, _LOGIN, "wants a password, and none was given (NOAUTH)", ends=True
)
_LOGIN_REJECTED = _ErrorMeaning(
    _PERMANENT,
    _LOGIN,
    "rejected the login: wrong password or user, or a user that is switched off (WRONGPASS)",
    ends=True,
)
_OLD_LOGIN = _ErrorMeaning(_PERMANENT, OLD_LOGIN, "knows no user names")
_NO_SUCH_DATABASE = _ErrorMeaning(_PERMANENT, "DatabaseError", "has no database of that number")
_UNKNOWN_COMMAND = _ErrorMeaning(_PERMANENT, "UnknownCommand", "does not know a command of Redis")

_CODES = {
    "NOAUTH": _PASSWORD_WANTED,  # these two by their text
    "WRONGPASS": _LOGIN_REJECTED,
    "BUSY": _ErrorMeaning(_TRANSIENT, "BUSY", "is busy running a script (BUSY)"),
    "CLUSTERDOWN": _ErrorMeaning(
        _TRANSIENT, "CLUSTERDOWN", "has a cluster that is down (CLUSTERDOWN)"
    ),
    # What protected mode says is the last thing before it closes.
    "DENIED": _ErrorMeaning(
        _PERMANENT, "DENIED", "is in protected mode: give it a password (DENIED)", ends=True
    ),
    "LOADING": _ErrorMeaning(
        _TRANSIENT, "LOADING", "is still loading its data (LOADING)", ends=True
    ),
    "MASTERDOWN": _ErrorMeaning(
        _TRANSIENT, "MASTERDOWN", "has no link to its master, or not its data yet (MASTERDOWN)"
    ),
    "MISCONF": _ErrorMeaning(_TRANSIENT, "MISCONF", "cannot save to its disk (MISCONF)"),
    "MOVED": _ErrorMeaning(_PERMANENT, "MOVED", "is one node of a cluster (MOVED)"),
    "NOPERM": _ErrorMeaning(_PERMANENT, "NOPERM", "forbids this user {command} (NOPERM)"),
    "NOPROTO": _ErrorMeaning(
        _PERMANENT, "NOPROTO", "does not speak RESP3: use protocol=2 (NOPROTO)"
    ),
    "NOREPLICAS": _ErrorMeaning(
        _TRANSIENT, "NOREPLICAS", "has too few replicas to write (NOREPLICAS)"
    ),
    "OOM": _ErrorMeaning(_TRANSIENT, "OOM", "has no memory left for writing (OOM)"),
    "READONLY": _ErrorMeaning(_TRANSIENT, "READONLY", "is a read-only replica (READONLY)"),
}
"""Code words, with which most error replies begin."""

_TEXTS = (
    (
        "max number of clients",
        _ErrorMeaning(
            _TRANSIENT, "MaxClients", "has too many clients already", ends=True, congestion=True
        ),
    ),
    ("AUTH <password> called without any password", _PASSWORD_UNWANTED),
    ("Client sent AUTH, but no password is set", _PASSWORD_UNWANTED),
    ("invalid password", _LOGIN_REJECTED),
    ("wrong number of arguments for 'auth' command", _OLD_LOGIN),
    ("wrong number of arguments for 'AUTH' command", _OLD_LOGIN),
    (
        "problem with LDAP service",
        _ErrorMeaning(
            _TRANSIENT, "ExternalAuthProviderError", "cannot ask who checks logins", ends=True
        ),
    ),
    ("This instance has", _ErrorMeaning(_PERMANENT, "NotACluster", "is not a node of a cluster")),
    ("DB index", _NO_SUCH_DATABASE),
    ("invalid DB", _NO_SUCH_DATABASE),
    (
        "SELECT is not",
        _ErrorMeaning(_PERMANENT, "DatabaseError", "is a cluster: it has only database 0"),
    ),
    ("unknown command", _UNKNOWN_COMMAND),
    ("unsupported command", _UNKNOWN_COMMAND),
    ("unknown subcommand", _UNKNOWN_COMMAND),
    (
        "Client names cannot",
        _ErrorMeaning(_PERMANENT, "ClientName", "does not take the client's name"),
    ),
)
"""How the texts of others begin, most of them after `ERR`."""
