"""What went wrong, in words fit for a person: exceptions of sockets and of redis-py to `Failure`.

No text of a server is ever copied, since it may hold anything; only the well-known code words are
named. The same goes for the text of exceptions.
"""

import errno
import socket
import ssl
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.redis._wire import NotRedisError
from states import Failure, FailureKind

_TRANSIENT = FailureKind.TRANSIENT
_PERMANENT = FailureKind.PERMANENT

CLOSED = "ConnectionClosed"
"""The `error_type` of a connection that the other side has ended."""

PATH_MISSING = "FileNotFoundError"
"""The `error_type` of a Unix socket that is not there."""

OLD_LOGIN = "AuthenticationWrongNumberOfArgsError"
"""The `error_type` of a server that knows passwords, but no user names."""


class Phase(StrEnum):
    """What an attempt is doing. It decides what a missing answer means."""

    RESOLVE = "looking up the name"
    CONNECT = "connecting"
    IMPORT = "importing redis"
    CREDENTIALS = "getting credentials"
    TLS = "TLS handshake"
    GREETING = "greeting"
    PING = "PING"


class WrongAnswerError(Exception):
    """A reply of Redis, but not the one to the command that was sent."""


class BadOptionsError(Exception):
    """The installed redis-py does not understand the options of the URL or the client."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What is to be known of an attempt to say why it failed.

    Attributes:
        where: The place in words, such as `redis at 127.0.0.1:6379`.
        phase: How far the attempt had come.
        timeout_seconds: The time that it had.
    """

    where: str
    phase: Phase
    timeout_seconds: float


def timed_out(at: Situation) -> Failure:
    """The failure of an attempt whose time is up."""
    limit = f"within {at.timeout_seconds:.3g} s"
    reasons = {
        Phase.RESOLVE: f"{at.where}: the name was not resolved {limit}; check the DNS resolver",
        Phase.CONNECT: f"{at.where} did not accept a connection {limit}:"
        " check the address, the firewall and how busy the server is",
        Phase.IMPORT: f"the redis package was not imported {limit}: the machine is very busy",
        Phase.CREDENTIALS: f"the credential provider for {at.where} gave no password {limit}",
        Phase.TLS: f"{at.where} did not finish the TLS handshake {limit}: is TLS on there?",
        Phase.GREETING: f"{at.where} did not answer the login {limit}, on an accepted connection",
        Phase.PING: f"{at.where} gave no answer to PING {limit}, on an accepted connection",
    }
    congestion = at.phase is Phase.CONNECT
    kind = "ConnectTimeout" if congestion else "TimeoutError"
    return Failure(_TRANSIENT, kind, reasons[at.phase], congestion)


def classify(error: Exception, at: Situation) -> Failure:
    """Why an attempt failed, from the exception that ended it."""
    cause = _cause(error)
    if isinstance(cause, OSError):
        return _of_socket(cause, at)
    if isinstance(cause, NotRedisError):
        return Failure(_PERMANENT, _NO_REDIS[0], f"{at.where} {_NO_REDIS[1]}")
    if isinstance(cause, WrongAnswerError):
        reason = f"{at.where} answered, but not as Redis does: is it a proxy?"
        return Failure(_PERMANENT, "WrongAnswer", reason)
    if isinstance(cause, BadOptionsError):
        reason = f"the options for {at.where} are not understood by redis-py: check ssl_*"
        return Failure(_PERMANENT, "BadOptions", reason)
    if isinstance(cause, ImportError):
        reason = "the redis package cannot be imported: install it with `pip install redis`"
        return Failure(_PERMANENT, "ImportError", reason)
    return _of_redis(cause, at) or _unexpected(cause, at)


def _unexpected(error: Exception, at: Situation) -> Failure:
    name = type(error).__name__
    return Failure(_TRANSIENT, name, f"asking {at.where} failed unexpectedly with {name}")


def _cause(error: Exception) -> Exception:
    # redis-py turns what the socket raised into errors of its own whose text is all that is left;
    # the original is their context. Its narrower classes mean a reply, and stay what they are.
    if type(error).__module__.startswith("redis.") and type(error).__name__ in {
        "ConnectionError",
        "TimeoutError",
    }:
        inner = error.__context__
        if isinstance(inner, OSError | NotRedisError):
            return inner
        if type(error).__name__ == "TimeoutError":
            return TimeoutError()
    return error


# -- sockets --------------------------------------------------------------------------------------


def _of_socket(error: OSError, at: Situation) -> Failure:
    match error:
        case TimeoutError():
            failure = timed_out(at)
        case socket.gaierror():
            reason = f"{at.where}: the name cannot be resolved; check it and the DNS resolver"
            failure = Failure(_TRANSIENT, "NameResolutionError", reason)
        case ssl.SSLError():
            failure = _of_tls(error, at)
        case FileNotFoundError() | PermissionError() if at.phase is Phase.TLS:
            reason = f"a certificate or key file for {at.where} cannot be read: check ssl_* options"
            failure = Failure(_PERMANENT, "CertificateError", reason)
        case _ if at.phase is Phase.CONNECT:
            failure = _of_connect(error, at)
        case ConnectionError():
            failure = _closed(at)
        case _:
            failure = _of_errno(error, at)
    return failure


def _of_connect(error: OSError, at: Situation) -> Failure:
    match error:
        case ConnectionRefusedError():
            reason = f"{at.where} refused the connection: nothing listens there"
            return Failure(_TRANSIENT, "ConnectionRefusedError", reason)
        case FileNotFoundError():
            reason = f"{at.where}: there is no such socket yet"
            return Failure(_TRANSIENT, PATH_MISSING, reason)
        case PermissionError():
            # A starting server creates its socket first, and sets the permissions afterwards.
            reason = f"{at.where}: no permission to connect; check the socket's owner and mode"
            return Failure(_TRANSIENT, "PermissionError", reason)
        case BlockingIOError():
            reason = f"{at.where} accepts no more connections now: its backlog is full"
            return Failure(_TRANSIENT, "BacklogFull", reason, congestion=True)
        case ConnectionError():
            return _closed(at)
        case _:
            return _of_errno(error, at)


def _closed(at: Situation) -> Failure:
    hint = "is it stopping, or does one side expect TLS?"
    reason = f"{at.where} closed the connection without an answer ({at.phase}): {hint}"
    return Failure(_TRANSIENT, CLOSED, reason)


def _of_errno(error: OSError, at: Situation) -> Failure:
    if error.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}:
        reason = f"{at.where} cannot be reached: there is no route to it"
        return Failure(_TRANSIENT, "UnreachableError", reason)
    word = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return Failure(_TRANSIENT, "OSError", f"{at.where} cannot be asked: {word} ({at.phase})")


_SPEAKS_NO_TLS = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER_FAILURE",
}


def _of_tls(error: ssl.SSLError, at: Situation) -> Failure:
    word = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        # The text is OpenSSL's own, about the certificate: no part of it comes from a reply.
        reason = f"the certificate of {at.where} is not accepted: {error.verify_message}"
        return Failure(_PERMANENT, "CertificateError", " ".join(reason.split()))
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return _closed(at)
    if word in _SPEAKS_NO_TLS:
        reason = f"{at.where} does not speak TLS: use redis://, or turn TLS on there"
        return Failure(_PERMANENT, "TlsMismatch", reason)
    if "ALERT" in word or "CERTIFICATE" in word or "PROTOCOL" in word:
        reason = f"{at.where} and this client do not agree on TLS or the client certificate"
        return Failure(_PERMANENT, "CertificateError", f"{reason} ({word})")
    return Failure(_TRANSIENT, "SSLError", f"TLS to {at.where} failed ({word or 'SSLError'})")


# -- replies --------------------------------------------------------------------------------------


_NO_REDIS = ("InvalidResponse", "is no Redis, or wants TLS (rediss://): it speaks another protocol")


def _of_redis(error: Exception, at: Situation) -> Failure | None:
    from redis import exceptions as known  # noqa: PLC0415  slow to load; loaded here already

    # Narrow classes first: some of them are ConnectionErrors, the others ResponseErrors.
    if isinstance(error, known.AuthenticationError):
        return _of_login(error, at)
    for kind_of_error, kind, name, said in (
        (known.AuthenticationWrongNumberOfArgsError, _PERMANENT, OLD_LOGIN, "knows no user names"),
        (known.BusyLoadingError, _TRANSIENT, "LOADING", "is still loading its data (LOADING)"),
        (
            known.NoPermissionError,
            _PERMANENT,
            "NOPERM",
            "forbids this user PING or the database (NOPERM)",
        ),
        (known.MasterDownError, _TRANSIENT, "MASTERDOWN", "has lost its master (MASTERDOWN)"),
        (known.InvalidResponse, _PERMANENT, _NO_REDIS[0], _NO_REDIS[1]),
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
        said = "rejected the password (WRONGPASS)"
    return Failure(_PERMANENT, "AuthenticationError", f"{at.where} {said}")


_WORDS: tuple[tuple[str, FailureKind, str, str, bool], ...] = (
    ("max number of clients", _TRANSIENT, "MaxClients", "has too many clients already", True),
    ("BUSY", _TRANSIENT, "BUSY", "is busy running a script (BUSY)", False),
    ("MISCONF", _TRANSIENT, "MISCONF", "cannot save to its disk (MISCONF)", False),
    ("CLUSTERDOWN", _TRANSIENT, "CLUSTERDOWN", "has a cluster that is down (CLUSTERDOWN)", False),
    ("MASTERDOWN", _TRANSIENT, "MASTERDOWN", "has lost its master (MASTERDOWN)", False),
    ("DENIED", _PERMANENT, "DENIED", "is in protected mode: give it a password (DENIED)", False),
    ("NOPROTO", _PERMANENT, "NOPROTO", "does not speak RESP3: use protocol=2 (NOPROTO)", False),
    ("DB index", _PERMANENT, "DatabaseError", "has no database of that number", False),
    ("invalid DB", _PERMANENT, "DatabaseError", "has no database of that number", False),
    ("SELECT is not", _PERMANENT, "DatabaseError", "is a cluster: it has only database 0", False),
    ("unknown command", _PERMANENT, "UnknownCommand", "does not know a command of Redis", False),
)
"""How the text of an error begins, kind, `error_type`, words for a person, congestion."""


def _of_words(error: Exception, at: Situation) -> Failure:
    text = str(error).removeprefix("ERR ")
    for begins, kind, name, said, congestion in _WORDS:
        if text.startswith(begins):
            return Failure(kind, name, f"{at.where} {said}", congestion)
    if type(error).__name__ == "ConnectionError":
        return _closed(at)
    name = type(error).__name__
    return Failure(_TRANSIENT, name, f"{at.where} answered PING with an error ({name})")
