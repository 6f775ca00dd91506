"""What went wrong with a socket, in words for a person, whatever is asked over it.

Nothing of an exception's text is copied but OpenSSL's own words about a certificate: the rest may
hold anything.
"""

import errno
import socket
import ssl

from states import Failure, FailureKind

_TRANSIENT = FailureKind.TRANSIENT
_PERMANENT = FailureKind.PERMANENT

CLOSED = "ConnectionClosed"
"""The `error_type` of a connection that the other side closed."""

PATH_MISSING = "FileNotFoundError"
"""The `error_type` of a Unix socket that is not there."""

_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}

_SPEAKS_NO_TLS = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER_FAILURE",
}


def failure_of_socket(
    error: OSError, where: str, *, doing: str, connecting: bool, plain: str
) -> Failure:
    """Why an attempt failed whose time was not up.

    Args:
        error: What the socket raised.
        where: The place in words, such as `redis at 127.0.0.1:6379`.
        doing: What the attempt was doing.
        connecting: Whether that was connecting.
        plain: How to ask without TLS, such as `use redis://`.
    """
    match error:
        case socket.gaierror():
            reason = f"{where}: the name cannot be resolved; check it and the DNS resolver"
            failure = Failure(_TRANSIENT, "NameResolutionError", reason)
        case ssl.SSLError():
            failure = _of_tls(error, where, doing, plain)
        case _ if connecting:
            failure = _of_connect(error, where, doing)
        case ConnectionError():
            failure = closed(where, doing)
        case _:
            failure = _of_errno(error, where, doing)
    return failure


def closed(where: str, doing: str) -> Failure:
    """The other side has ended the connection."""
    hint = "is it stopping, or does one side expect TLS?"
    reason = f"{where} closed the connection without an answer ({doing}): {hint}"
    return Failure(_TRANSIENT, CLOSED, reason)


def _of_connect(error: OSError, where: str, doing: str) -> Failure:
    match error:
        case ConnectionRefusedError():
            reason = f"{where} refused the connection: nothing listens there"
            return Failure(_TRANSIENT, "ConnectionRefusedError", reason)
        case FileNotFoundError():
            reason = f"{where}: there is no such socket yet"
            return Failure(_TRANSIENT, PATH_MISSING, reason)
        case PermissionError():
            # A starting server creates its socket first, and sets the permissions afterwards.
            reason = f"{where}: no permission to connect; check the socket's owner and mode"
            return Failure(_TRANSIENT, "PermissionError", reason)
        case BlockingIOError():
            reason = f"{where} accepts no more connections now: its backlog is full"
            return Failure(_TRANSIENT, "BacklogFull", reason, congestion=True)
        case ConnectionError():
            return closed(where, doing)
        case _:
            return _of_errno(error, where, doing)


def _of_errno(error: OSError, where: str, doing: str) -> Failure:
    if error.errno in _UNREACHABLE:
        reason = f"{where} cannot be reached: there is no route to it"
        return Failure(_TRANSIENT, "UnreachableError", reason)
    word = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return Failure(_TRANSIENT, "OSError", f"{where} cannot be asked: {word} ({doing})")


def _of_tls(error: ssl.SSLError, where: str, doing: str, plain: str) -> Failure:
    # What OpenSSL raises outside of a handshake may have no reason at all.
    word = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        # The text is OpenSSL's own, about the certificate: no part of it comes from a reply.
        reason = f"the certificate of {where} is not accepted: {error.verify_message}"
        return Failure(_PERMANENT, "CertificateError", " ".join(reason.split()))
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError):
        return closed(where, doing)
    if word in _SPEAKS_NO_TLS:
        reason = f"{where} does not speak TLS: {plain}, or turn TLS on there"
        return Failure(_PERMANENT, "TlsMismatch", reason)
    if "ALERT" in word or "CERTIFICATE" in word or "PROTOCOL" in word:
        reason = f"{where} and this client do not agree on TLS or the client certificate"
        return Failure(_PERMANENT, "CertificateError", f"{reason} ({word})")
    return Failure(_TRANSIENT, "SSLError", f"TLS to {where} failed ({word or 'SSLError'})")
