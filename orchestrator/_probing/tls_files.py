"""Makes a TLS context from files, or says which of them cannot be used.

Nothing here ever asks a person for a pass phrase.
"""

import ssl
from dataclasses import field
from pathlib import Path

from orchestrator._probing.protocol_fault import ProtocolFault
from states._records import record


@record
class TlsFiles:
    """What a client brings to TLS; empty for nothing.

    Attributes:
        authorities: The file of the authorities to trust; empty for those of the system.
        directory: The directory of such authorities.
        certificate: The file of the client's certificate.
        key: The file of its private key, if it is another one.
        password: The pass phrase of the key.
        names: What the options are called in which authorities, certificate and key were given.
    """

    authorities: str = ""
    directory: str = ""
    certificate: str = ""
    key: str = ""
    password: str = field(default="", repr=False)
    names: tuple[str, str, str] = ("cafile", "certfile", "keyfile")


def client_context(files: TlsFiles, *, verify: bool, check_hostname: bool) -> ssl.SSLContext:
    """A context that trusts these authorities, or everyone.

    Raises:
        ProtocolFault: When a file cannot be used. It is named by its option alone.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = verify and check_hostname
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    authorities, certificate, key = files.names
    if verify:
        try:
            if files.authorities or files.directory:
                _readable(files.authorities, authorities)
                directory = files.directory or None
                context.load_verify_locations(files.authorities or None, directory)
            else:
                context.load_default_certs()
        except (OSError, ValueError):
            raise _fault(f"{authorities} holds no certificate") from None
    if files.certificate:
        _readable(files.certificate, certificate)
        _readable(files.key, key)
        try:
            # With a pass phrase of its own, even an empty one, OpenSSL does not ask the terminal.
            context.load_cert_chain(files.certificate, files.key or None, files.password)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None)
            said = f"{certificate} and {key} cannot be used, or the key needs another pass phrase"
            if reason == "KEY_VALUES_MISMATCH":
                said = f"{key} holds the key of another certificate"
            raise _fault(said) from None
    return context


def _readable(path: str, option: str) -> None:
    try:
        if path:
            with Path(path).open("rb"):
                return
    except FileNotFoundError:
        raise _fault(f"{option} names a file that is not there") from None
    except PermissionError:
        raise _fault(f"{option} names a file that may not be read") from None
    except (OSError, ValueError):
        raise _fault(f"{option} names no file that can be read") from None


def _fault(said: str) -> ProtocolFault:
    return ProtocolFault("CertificateError", f"no TLS to {{where}}: {said}", permanent=True)
