"""What went wrong, in words fit for a person: exceptions of sockets and of redis-py to `Failure`.

What Redis itself says is in `_replies`. No text of a server is ever copied, since it may hold
anything; only the well-known code words are named. The same goes for the text of exceptions.
"""

import errno
import socket
import ssl
from dataclasses import dataclass, replace
from enum import StrEnum

from orchestrator.redis._deadline_socket import NotRedisError, SlowAnswerError
from orchestrator.redis._replies import is_refusal, no_redis, of_reply
from states import Failure, FailureKind

_TRANSIENT = FailureKind.TRANSIENT
_PERMANENT = FailureKind.PERMANENT

CLOSED = "ConnectionClosed"
"""The `error_type` of a connection that the other side has ended."""

OF_TIME = frozenset({"TimeoutError", "ConnectTimeout", "SentinelsUnreachable"})
"""The `error_type` of what more time might have mended."""

PATH_MISSING = "FileNotFoundError"
"""The `error_type` of a Unix socket that is not there."""


class Phase(StrEnum):
    """What an attempt is doing. It decides what a missing answer means."""

    RESOLVE = "looking up the name"
    CONNECT = "connecting"
    IMPORT = "importing redis"
    CREDENTIALS = "getting credentials"
    TLS = "TLS handshake"
    GREETING = "redis_connect_func"
    SENTINEL = "asking the sentinels"
    PING = "PING"


ENDLESS = frozenset({Phase.RESOLVE, Phase.CREDENTIALS, Phase.TLS, Phase.GREETING})
"""What waits for others, and no deadline can end; or not to the moment, as TLS, which reads its
files and certificates first."""

_GREETING = frozenset({"HELLO", "AUTH", "CLIENT", "SELECT"})
"""The commands with which a connection begins; which of them depends on redis-py's version."""


class WrongAnswerError(Exception):
    """A reply of Redis, but not the one to the command that was sent."""


class UnfitError(Exception):
    """The server answers, but is not one that the service can use.

    Attributes:
        kind: Whether asking again soon can help.
        error_type: The `error_type` of the failure.
        said: What is wrong, to be put behind the name of the place.
    """

    def __init__(self, kind: FailureKind, error_type: str, said: str) -> None:
        super().__init__(error_type)
        self.kind = kind
        self.error_type = error_type
        self.said = said


class BadOptionsError(Exception):
    """The installed redis-py cannot make a connection with the options of the URL or the client.

    Attributes:
        option: The name of the option that is to blame; empty if it is not one alone.
    """

    def __init__(self, option: str = "") -> None:
        super().__init__(option)
        self.option = option


class TlsOptionError(Exception):
    """TLS cannot begin, or not be trusted, because of an option of our own.

    Attributes:
        said: What is wrong with which option, without its value.
        error_type: The `error_type` of the failure.
        lasting: Whether somebody has to change something first.
    """

    def __init__(self, said: str, error_type: str, *, lasting: bool = True) -> None:
        super().__init__(said)
        self.said = said
        self.error_type = error_type
        self.lasting = lasting


class ApplicationError(Exception):
    """A function of the application's, which the probe calls as the client would, has raised.

    Attributes:
        what: Whose function it is: the option of redis-py.
        error_type: The class of what it raised.
    """

    def __init__(self, what: str, error_type: str) -> None:
        super().__init__(what, error_type)
        self.what = what
        self.error_type = error_type


@dataclass(frozen=True, slots=True)
class Situation:
    """What is to be known of an attempt to say why it failed.

    Attributes:
        where: The place in words, such as `redis at 127.0.0.1:6379`.
        phase: How far the attempt had come.
        timeout_seconds: The time that it had.
        command: The command whose reply it waited for.
        fresh: Whether the connection is a new one that has not answered yet.
    """

    where: str
    phase: Phase
    timeout_seconds: float
    command: str = "PING"
    fresh: bool = False


def timed_out(at: Situation) -> Failure:
    """The failure of an attempt whose time is up."""
    limit = f"within {at.timeout_seconds:.3g} s"
    asked = "the greeting" if at.command in _GREETING else at.command
    reasons = {
        Phase.RESOLVE: f"{at.where}: the name was not resolved {limit}; check the DNS resolver",
        Phase.CONNECT: f"{at.where} did not accept a connection {limit}:"
        " check the address, the firewall and how busy the server is",
        Phase.IMPORT: f"the redis package was not imported {limit}: the machine is very busy",
        Phase.CREDENTIALS: f"the credential provider for {at.where} gave no password {limit}",
        Phase.TLS: f"{at.where} did not finish the TLS handshake {limit}: is TLS on there?",
        Phase.GREETING: f"redis_connect_func did not log in to {at.where} {limit}",
        Phase.SENTINEL: f"the sentinels of {at.where} did not answer {limit}",
        Phase.PING: f"{at.where} gave no answer to {asked} {limit}, on an accepted connection",
    }
    # Whoever accepts and does not answer is busy with those who came before, most of the time.
    answering = at.phase in {Phase.TLS, Phase.GREETING, Phase.PING}
    congestion = at.phase is Phase.CONNECT or (at.fresh and answering)
    kind = "ConnectTimeout" if at.phase is Phase.CONNECT else "TimeoutError"
    return Failure(_TRANSIENT, kind, reasons[at.phase], congestion)


def held_up(failure: Failure, seconds: float) -> Failure:
    """The same failure, of which it has to be said that this process did not run in time."""
    reason = f"{failure.reason}; this process itself was late by {seconds:.3g} s"
    return replace(failure, reason=reason)


def classify(error: Exception, at: Situation) -> Failure:
    """Why an attempt failed, from the exception that ended it."""
    match cause := _cause(error):
        case OSError():
            failure = _of_socket(cause, at)
        case NotRedisError():
            failure = no_redis(at.where)
        case UnfitError():
            failure = Failure(cause.kind, cause.error_type, f"{at.where} {cause.said}")
        case WrongAnswerError():
            reason = f"{at.where} answered, but not as Redis does: is it a proxy?"
            failure = Failure(_PERMANENT, "WrongAnswer", reason)
        case BadOptionsError() | TlsOptionError() | ApplicationError() | SlowAnswerError():
            failure = _of_client(cause, at)
        case ImportError():
            reason = "the redis package cannot be imported: install it with `pip install redis`"
            failure = Failure(_PERMANENT, "ImportError", reason)
        case _ if _is_redis(cause, "ConnectionError") and not is_refusal(cause):
            failure = _closed(at)
        case _:
            failure = of_reply(cause, at.where, at.command) or unexpected(cause, at)
    return failure


def _of_client(
    error: BadOptionsError | TlsOptionError | ApplicationError | SlowAnswerError, at: Situation
) -> Failure:
    """What the application's client would fail with, whatever the server is like."""
    match error:
        case BadOptionsError():
            named = f"the option {error.option}" if error.option else "the options"
            reason = f"redis-py makes no connection with {named} for {at.where}: check the URL"
            return Failure(_PERMANENT, "BadOptions", reason)
        case TlsOptionError():
            kind = _PERMANENT if error.lasting else _TRANSIENT
            return Failure(kind, error.error_type, f"no TLS to {at.where}: {error.said}")
        case ApplicationError():
            reason = f"the {error.what} for {at.where} raised {error.error_type}"
            return Failure(_TRANSIENT, error.error_type, reason)
        case SlowAnswerError():
            limit = f"within the {error.limit_seconds:.3g} s of the client's socket_timeout"
            asked = "the greeting" if at.command in _GREETING else at.command
            reason = f"{at.where} gave no answer to {asked} {limit}"
            return Failure(_TRANSIENT, "SocketTimeout", reason, congestion=at.fresh)


def unexpected(error: Exception, at: Situation) -> Failure:
    """The failure of an attempt that ended in a way that nobody foresaw."""
    name = type(error).__name__
    return Failure(_TRANSIENT, name, f"asking {at.where} failed unexpectedly with {name}")


def _cause(error: Exception) -> Exception:
    # redis-py turns what the socket raised into errors of its own whose text is all that is left;
    # the original is their context. Its narrower classes mean a reply, and stay what they are.
    if _is_redis(error, "ConnectionError", "TimeoutError"):
        inner = error.__context__
        if isinstance(inner, OSError | NotRedisError):
            return inner
        if type(error).__name__ == "TimeoutError":
            return TimeoutError()
    return error


def _is_redis(error: Exception, *names: str) -> bool:
    """Whether it is exactly one of these classes of redis-py, and none derived from them."""
    kind = type(error)
    return kind.__module__.startswith("redis.") and kind.__name__ in names


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
    # What OpenSSL raises outside of a handshake may have no reason at all.
    word = getattr(error, "reason", None) or ""
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
