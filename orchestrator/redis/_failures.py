"""What went wrong, in words fit for a person: exceptions of sockets and of redis-py to `Failure`.

What Redis itself says is in `_error_replies`. No text of a server is ever copied, since it may hold
anything; only the well-known code words are named. The same goes for the text of exceptions.
"""

import errno
import socket
import ssl

from orchestrator.redis._error_replies import is_refusal, of_reply
from orchestrator.redis._errors import AttemptError
from orchestrator.redis._progress import ProbePhase, Situation
from states import Failure, FailureKind

_TRANSIENT = FailureKind.TRANSIENT
_PERMANENT = FailureKind.PERMANENT

CLOSED = "ConnectionClosed"
"""The `error_type` of a connection that the other side has ended."""

OF_TIME = frozenset({"TimeoutError", "ConnectTimeout", "SentinelsUnreachable"})
"""The `error_type` of what more time might have mended."""

PATH_MISSING = "FileNotFoundError"
"""The `error_type` of a Unix socket that is not there."""


def timed_out(at: Situation) -> Failure:
    """The failure of an attempt whose time is up."""
    limit = f"within {at.timeout_seconds:.3g} s"
    reasons = {
        ProbePhase.RESOLVE: f"{at.where}: the name was not resolved {limit};"
        " check the DNS resolver",
        ProbePhase.CONNECT: f"{at.where} did not accept a connection {limit}:"
        " check the address, the firewall and how busy the server is",
        ProbePhase.IMPORT: f"the redis package was not imported {limit}: the machine is very busy",
        ProbePhase.CREDENTIALS: f"the credential provider for {at.where} gave no password {limit}",
        ProbePhase.TLS: f"{at.where} did not finish the TLS handshake {limit}: is TLS on there?",
        ProbePhase.GREETING: f"redis_connect_func did not log in to {at.where} {limit}",
        ProbePhase.SENTINEL: f"the sentinels of {at.where} did not answer {limit}",
        ProbePhase.PING: f"{at.where} gave no answer to {at.asked} {limit},"
        " on an accepted connection",
    }
    # Whoever accepts and does not answer is busy with those who came before, most of the time.
    answering = at.phase in {ProbePhase.TLS, ProbePhase.GREETING, ProbePhase.PING}
    congestion = at.phase is ProbePhase.CONNECT or (at.fresh and answering)
    kind = "ConnectTimeout" if at.phase is ProbePhase.CONNECT else "TimeoutError"
    return Failure(_TRANSIENT, kind, reasons[at.phase], congestion)


def classify(error: Exception, at: Situation) -> Failure:
    """Why an attempt failed, from the exception that ended it."""
    match cause := _cause(error):
        case AttemptError():
            return cause.failure(at)
        case OSError():
            return _of_socket(cause, at)
        case ImportError():
            reason = "the redis package cannot be imported: install it with `pip install redis`"
            return Failure(_PERMANENT, "ImportError", reason)
        case _ if _is_redis(cause, "ConnectionError") and not is_refusal(cause):
            return _closed(at)
        case _:
            return of_reply(cause, at) or unexpected(cause, at)


def unexpected(error: Exception, at: Situation) -> Failure:
    """The failure of an attempt that ended in an unforeseen way."""
    name = type(error).__name__
    return Failure(_TRANSIENT, name, f"asking {at.where} failed unexpectedly with {name}")


def _cause(error: Exception) -> Exception:
    # redis-py turns what the socket raised into errors of its own whose text is all that is left;
    # the original is their context. Its narrower classes mean a reply, and stay what they are.
    if _is_redis(error, "ConnectionError", "TimeoutError"):
        inner = error.__context__
        if isinstance(inner, OSError | AttemptError):
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
        case _ if at.phase is ProbePhase.CONNECT:
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
