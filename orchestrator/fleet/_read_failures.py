"""Why a fleet can't be read, in words fit for a person. Nothing of a server's text is copied."""

import redis

from orchestrator._probing.socket_failures import failure_of_socket
from orchestrator.fleet._reader_connection import TooLongError
from orchestrator.fleet._redis_source import UnexpectedReplyError
from states import Failure, FailureKind

_TRANSIENT = FailureKind.TRANSIENT
_PERMANENT = FailureKind.PERMANENT

_NO_RIGHT = "does not let this user read the keys of the fleet: see its ACL"

_BY_CODE = {
    "WRONGPASS": (_PERMANENT, "refused the login: check user name and password in the URL"),
    "NOPERM": (_PERMANENT, _NO_RIGHT),
    "WRONGTYPE": (_PERMANENT, "has something else under the keys of the fleet"),
    "LOADING": (_TRANSIENT, "is loading its data"),
    "MASTERDOWN": (_TRANSIENT, "is a replica that has lost its primary"),
    "READONLY": (_TRANSIENT, "is read-only: a group writes to the primary"),
    "CLUSTERDOWN": (_TRANSIENT, "is a cluster that is down"),
    "MOVED": (_PERMANENT, "is a cluster whose other node has the keys: use the URL of that node"),
    "BUSY": (_TRANSIENT, "runs a script that does not end"),
}

_BY_CLASS: tuple[tuple[type[Exception], str], ...] = (
    (redis.AuthenticationError, "WRONGPASS"),
    (redis.exceptions.NoPermissionError, "NOPERM"),
    (redis.BusyLoadingError, "LOADING"),
    (redis.ReadOnlyError, "READONLY"),
)
"""Where redis-py takes the code word away."""


def read_failure(error: Exception, where: str) -> Failure:
    """Why reading failed.

    Args:
        error: What ended it.
        where: The place in words.
    """
    cause = _cause(error)
    name = type(cause).__name__
    match cause:
        case TooLongError():
            kind = _PERMANENT
            why = "gave more than 8 MiB at once: something else writes to the keys of the fleet"
        case UnexpectedReplyError() | redis.InvalidResponse():
            kind, why = _PERMANENT, "does not answer as Redis does"
        case TimeoutError() | redis.TimeoutError():
            kind, name, why = _TRANSIENT, "TimeoutError", "did not answer in time"
        case OSError():
            return failure_of_socket(
                cause, where, doing="reading", connecting=True, plain="use redis://"
            )
        case _ if code := _code(cause):
            kind, why = _BY_CODE[code]
            name = code
        case redis.ResponseError():
            kind, why = _PERMANENT, "refused a command of the reader"
        case redis.ConnectionError():
            kind, why = _TRANSIENT, "closed the connection"
        case _:
            kind, why = _TRANSIENT, f"could not be read: {name}"
    return Failure(kind, name, f"{where} {why}")


def _code(error: Exception) -> str:
    """The code word of a reply, if it is one that is known; empty for none."""
    for kind, code in _BY_CLASS:
        if isinstance(error, kind):
            return code
    code = str(error).partition(" ")[0] if isinstance(error, redis.ResponseError) else ""
    return code if code in _BY_CODE else ""


def _cause(error: Exception) -> Exception:
    """What redis-py made its own error of, where that says more."""
    inner = error.__context__
    plain = type(error) in (redis.ConnectionError, redis.TimeoutError)
    return inner if plain and isinstance(inner, OSError | TooLongError) else error
