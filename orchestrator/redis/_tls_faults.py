"""Which TLS option is to blame, where nothing that the other side said can be."""

import ssl
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from orchestrator.redis._errors import TlsOptionError


class TlsOptions(Protocol):
    """The options, under the names that the connections of `redis.connection` keep them."""

    check_hostname: bool
    cert_reqs: ssl.VerifyMode
    certfile: str | None
    keyfile: str | None
    certificate_password: str | None
    ca_certs: str | None
    ca_path: str | None
    ca_data: str | bytes | None
    ssl_min_version: ssl.TLSVersion | None
    ssl_ciphers: str | None
    ssl_validate_ocsp: bool
    ssl_validate_ocsp_stapled: bool
    ssl_ocsp_context: object


_HANDSHAKE = frozenset({"wrap_socket", "do_handshake"})


def fault_of_ours(error: Exception, connection: TlsOptions) -> TlsOptionError | None:
    """What is wrong with our own options; `None` when the error is one of the handshake.

    Args:
        error: What was raised while redis-py prepared TLS, shook hands and checked the result.
        connection: redis-py's connection.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if any(frame.f_globals.get("__name__") == "ssl" for frame in frames) and any(
        frame.f_code.co_name in _HANDSHAKE for frame in frames
    ):
        if getattr(error, "reason", None) in {"NO_CIPHERS_AVAILABLE", "NO_PROTOCOLS_AVAILABLE"}:
            said = "ssl_ciphers and ssl_min_version leave nothing to speak"
            return TlsOptionError(said, "BadOptions")
        return None
    for check, error_type in _CHECKS:
        if (fault := check(connection)) is not None:
            return TlsOptionError(fault, error_type)
    if connection.ssl_validate_ocsp or connection.ssl_validate_ocsp_stapled:
        return _of_ocsp(error, connection)
    return TlsOptionError("the ssl_* options cannot be used together", "BadOptions")


# Each tries its options by themselves, on a context that is thrown away.


def _fails(step: Callable[[ssl.SSLContext], object]) -> bool:
    try:
        step(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except Exception:  # a wrong type is one of the ways to be wrong
        return True
    return False


def _verification(connection: TlsOptions) -> str | None:
    def names(context: ssl.SSLContext) -> None:
        context.check_hostname = connection.check_hostname
        context.verify_mode = connection.cert_reqs

    if _fails(names):
        return "ssl_check_hostname and ssl_cert_reqs contradict each other"
    for name in ("ssl_include_verify_flags", "ssl_exclude_verify_flags"):
        for flag in getattr(connection, name, None) or ():
            if not isinstance(flag, ssl.VerifyFlags):
                return f"{name} must hold members of ssl.VerifyFlags"
    return None


def _certificate(connection: TlsOptions) -> str | None:
    certificate, key = connection.certfile, connection.keyfile
    password = connection.certificate_password
    if not (certificate or key):
        return None
    if not certificate:
        return "ssl_keyfile is set and ssl_certfile is not"
    for name, path in (("ssl_certfile", certificate), ("ssl_keyfile", key)):
        if path and (said := _unreadable(path)):
            return f"{name} {said}"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password)
    except ssl.SSLError as error:
        return _of_chain(error, certificate, key, password)
    except Exception:  # a wrong type, or a function of the application's that raised
        return "ssl_password does not give a pass phrase"
    return None


def _of_chain(error: ssl.SSLError, certificate: str, key: str | None, password: str | None) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{'ssl_keyfile' if key else 'ssl_certfile'} holds the key of another certificate"
    if _fails(lambda context: context.load_verify_locations(certificate)):
        return "ssl_certfile holds no certificate"
    source = "ssl_keyfile" if key else "ssl_certfile"
    text = Path(key or certificate).read_bytes()
    if b"PRIVATE KEY-----" not in text:
        return f"{source} holds no private key"
    if b"ENCRYPTED" in text:
        if password:
            return f"ssl_password does not open the private key in {source}"
        return f"the private key in {source} is encrypted, and there is no ssl_password"
    return f"OpenSSL does not take the certificate or the private key in {source}"


def _unreadable(path: str) -> str | None:
    try:
        with Path(path).open("rb"):
            return None
    except FileNotFoundError:
        return "names a file that is not there"
    except PermissionError:
        return "names a file that may not be read"
    except Exception:  # a directory, a wrong type, a name that cannot be one
        return "names no file that can be read"


def _authorities(connection: TlsOptions) -> str | None:
    path, data = connection.ca_certs, connection.ca_data
    if path is not None:
        if said := _unreadable(path):
            return f"ssl_ca_certs {said}"
        if _fails(lambda context: context.load_verify_locations(cafile=path)):
            return "ssl_ca_certs holds no certificate"
    directory = connection.ca_path
    if directory is not None and _fails(
        lambda context: context.load_verify_locations(capath=directory)
    ):
        return "ssl_ca_path names no directory that can be used"
    if data is not None and _fails(lambda context: context.load_verify_locations(cadata=data)):
        return "ssl_ca_data holds no certificate"
    return None


def _min_version(connection: TlsOptions) -> str | None:
    version = connection.ssl_min_version
    if version is not None and _fails(lambda context: _set_min_version(context, version)):
        return "ssl_min_version is no version that this redis-py and OpenSSL take"
    return None


def _set_min_version(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    context.minimum_version = version


def _ciphers(connection: TlsOptions) -> str | None:
    ciphers = connection.ssl_ciphers
    if ciphers and _fails(lambda context: context.set_ciphers(ciphers)):
        return "ssl_ciphers selects nothing"
    return None


def _ocsp(connection: TlsOptions) -> str | None:
    if connection.ssl_validate_ocsp and connection.ssl_validate_ocsp_stapled:
        return "ssl_validate_ocsp and ssl_validate_ocsp_stapled cannot both be set"
    return None


def _of_ocsp(error: Exception, connection: TlsOptions) -> TlsOptionError:
    stapled = bool(connection.ssl_validate_ocsp_stapled)
    name = "ssl_validate_ocsp_stapled" if stapled else "ssl_validate_ocsp"
    if isinstance(error, ImportError) or "cryptography is not installed" in str(error):
        said = f"{name} needs packages that are not installed: redis[ocsp]"
        return TlsOptionError(said, "BadOptions")
    has_both = connection.certfile and connection.keyfile
    if stapled and connection.ssl_ocsp_context is None and not has_both:
        said = f"{name} needs ssl_certfile and ssl_keyfile, or ssl_ocsp_context"
        return TlsOptionError(said, "BadOptions")
    # The responder is asked by `requests`, whose exceptions are errors of the system.
    lasting = not isinstance(error, OSError)
    said = f"{name}: the server's certificate was not confirmed"
    return TlsOptionError(said, "CertificateError", lasting=lasting)


_CHECKS: tuple[tuple[Callable[[TlsOptions], str | None], str], ...] = (
    (_verification, "BadOptions"),
    (_certificate, "CertificateError"),
    (_authorities, "CertificateError"),
    (_min_version, "BadOptions"),
    (_ciphers, "BadOptions"),
    (_ocsp, "BadOptions"),
)
"""What an option says that cannot be used, and the `error_type` then."""
