"""What Redis said, in words fit for a person: its error replies to `Failure`.

No text of a server is ever copied, since it may hold anything; only the well-known code words are
named.
"""

from orchestrator.redis._errors import NotRedisError
from orchestrator.redis._progress import Situation
from states import Failure, FailureKind

_TRANSIENT = FailureKind.TRANSIENT
_PERMANENT = FailureKind.PERMANENT

OLD_LOGIN = "AuthenticationWrongNumberOfArgsError"
"""The `error_type` of a server that knows passwords, but no user names."""


def is_refusal(error: Exception) -> bool:
    """Whether a plain `ConnectionError` of redis-py is a reply, and not a broken connection."""
    text = str(error).removeprefix("ERR ")
    return any(text.startswith(begins) for begins, *_ in _WORDS)


def is_passed_over(error: Exception) -> bool:
    """Whether it is an error reply that does not end a connection."""
    from redis import exceptions as known  # slow to load; loaded here already

    # What protected mode says is the last thing before it closes.
    return isinstance(error, known.ResponseError) and not str(error).startswith("DENIED")


def of_reply(error: Exception, at: Situation) -> Failure | None:
    """Why an attempt failed, from an error of redis-py; `None` for any other exception."""
    from redis import exceptions as known  # slow to load; loaded here already

    # Narrow classes first: some of them are ConnectionErrors, the others ResponseErrors.
    if isinstance(error, known.AuthenticationError):
        return _of_login(error, at)
    if isinstance(error, known.InvalidResponse):
        return NotRedisError().failure(at)
    for kind_of_error, kind, name, said in (
        (known.AuthenticationWrongNumberOfArgsError, _PERMANENT, OLD_LOGIN, "knows no user names"),
        (known.BusyLoadingError, _TRANSIENT, "LOADING", "is still loading its data (LOADING)"),
        (known.NoPermissionError, _PERMANENT, "NOPERM", f"forbids this user {at.command} (NOPERM)"),
        (
            known.MasterDownError,
            _TRANSIENT,
            "MASTERDOWN",
            "has no link to its master, or not its data yet (MASTERDOWN)",
        ),
        (known.ReadOnlyError, _TRANSIENT, "READONLY", "is a read-only replica (READONLY)"),
        (known.OutOfMemoryError, _TRANSIENT, "OOM", "has no memory left for writing (OOM)"),
        (
            known.ClusterDownError,
            _TRANSIENT,
            "CLUSTERDOWN",
            "has a cluster that is down (CLUSTERDOWN)",
        ),
        (known.MovedError, _PERMANENT, "MOVED", "is one node of a cluster (MOVED)"),
    ):
        if isinstance(error, kind_of_error):
            return Failure(kind, name, f"{at.where} {said}")
    if isinstance(error, known.ConnectionError | known.ResponseError):
        return _of_words(error, at)
    return None


def _of_login(error: Exception, at: Situation) -> Failure:
    text = str(error).lower()
    if "no password is set" in text or "without any password" in text:
        said = "wants no password, but one was given: remove it, or set one there"
    elif "authentication required" in text or "already authenticated" in text:
        said = "wants a password, and none was given (NOAUTH)"
    else:
        said = (
            "rejected the login: wrong password or user, or a user that is switched off (WRONGPASS)"
        )
    return Failure(_PERMANENT, "AuthenticationError", f"{at.where} {said}")


_WORDS: tuple[tuple[str, FailureKind, str, str, bool], ...] = (
    ("max number of clients", _TRANSIENT, "MaxClients", "has too many clients already", True),
    ("BUSY", _TRANSIENT, "BUSY", "is busy running a script (BUSY)", False),
    ("MISCONF", _TRANSIENT, "MISCONF", "cannot save to its disk (MISCONF)", False),
    ("NOREPLICAS", _TRANSIENT, "NOREPLICAS", "has too few replicas to write (NOREPLICAS)", False),
    ("This instance has", _PERMANENT, "NotACluster", "is not a node of a cluster", False),
    (
        "MASTERDOWN",
        _TRANSIENT,
        "MASTERDOWN",
        "has no link to its master, or not its data yet (MASTERDOWN)",
        False,
    ),
    ("DENIED", _PERMANENT, "DENIED", "is in protected mode: give it a password (DENIED)", False),
    ("NOPROTO", _PERMANENT, "NOPROTO", "does not speak RESP3: use protocol=2 (NOPROTO)", False),
    ("DB index", _PERMANENT, "DatabaseError", "has no database of that number", False),
    ("invalid DB", _PERMANENT, "DatabaseError", "has no database of that number", False),
    ("SELECT is not", _PERMANENT, "DatabaseError", "is a cluster: it has only database 0", False),
    *(
        (begins, _PERMANENT, "UnknownCommand", "does not know a command of Redis", False)
        for begins in ("unknown command", "unsupported command", "unknown subcommand")
    ),
    ("Client names cannot", _PERMANENT, "ClientName", "does not take the client's name", False),
)
"""How the text of an error begins, kind, `error_type`, words for a person, congestion."""


def _of_words(error: Exception, at: Situation) -> Failure:
    text = str(error).removeprefix("ERR ")
    for begins, kind, name, said, congestion in _WORDS:
        if text.startswith(begins):
            no_hello = name == "UnknownCommand" and at.command == "HELLO"
            words = "does not know HELLO: use protocol=2" if no_hello else said
            return Failure(kind, name, f"{at.where} {words}", congestion)
    name = type(error).__name__
    return Failure(_TRANSIENT, name, f"{at.where} answered {at.command} with an error ({name})")
