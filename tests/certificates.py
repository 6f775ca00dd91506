"""Certificates for tests, made on the spot with the openssl program.

They have what RFC 5280 asks for and Python checks from 3.13 on (`ssl.VERIFY_X509_STRICT`): the
authority says that it is one and may sign, and each certificate names the key that signed it.
"""

import shutil
import subprocess
from pathlib import Path

PASS_PHRASE = "sesame"  # a made-up one

HAVE_OPENSSL = shutil.which("openssl") is not None

_AUTHORITY = """\
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = ca
[extensions]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
"""

_SIGNED = """\
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1
"""


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def make_certificates(directory: Path) -> None:
    """An authority, a server certificate for 127.0.0.1 only, and one for a client.

    The client's key is there twice: in `client.key`, and in `encrypted.key` behind `PASS_PHRASE`.
    """
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    (directory / "ca.cnf").write_text(_AUTHORITY)
    own = ("-config", "ca.cnf", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2")
    openssl(directory, "req", "-x509", *key, *own)
    (directory / "signed.ext").write_text(_SIGNED)
    for name in ("server", "client"):
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(directory, "req", *key, *request)
        openssl(
            directory,
            *("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "2"),
            *("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "signed.ext"),
        )
    protect = ("-aes256", "-passout", f"pass:{PASS_PHRASE}")
    openssl(directory, "pkey", *protect, "-in", "client.key", "-out", "encrypted.key")
