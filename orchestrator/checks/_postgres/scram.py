"""SCRAM-SHA-256 (RFC 5802, 7677), with channel binding by the server's certificate (RFC 5929)."""

import base64
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata

from orchestrator._probing.protocol_fault import ProtocolFault

PLAIN, BOUND = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"

_MOST_ROUNDS = 2_000_000
"""PostgreSQL's own number is 4,096. So many take about a second."""

_FIRST = re.compile(
    rb"r=(?P<nonce>[!-+\--~]+),s=(?P<salt>[A-Za-z0-9+/=]+),i=(?P<rounds>[1-9]\d{0,8})"
)


class Scram:
    """One login: `first`, `final` for what the server answers, `verify` for its last word.

    Args:
        password: The password.
        certificate: The server's certificate in DER, to bind the login to it; `None` for none.
        could_bind: Whether this client could have bound it, had the server offered that.

    Attributes:
        verified: Whether the server has proved that it knows the password.
    """

    def __init__(self, password: str, certificate: bytes | None, *, could_bind: bool) -> None:
        self._password = _prepared(password)
        self._header, self._binding = b"y,," if could_bind else b"n,,", b""
        if certificate is not None:
            self._header = b"p=tls-server-end-point,,"
            self._binding = fingerprint(certificate)
        self._nonce = base64.b64encode(secrets.token_bytes(18))
        self._bare = b"n=,r=" + self._nonce
        self._expected = b""
        self.verified = False

    def first(self) -> bytes:
        """What the client says first; PostgreSQL knows the user already."""
        return self._header + self._bare

    def final(self, answer: bytes) -> bytes:
        """The proof.

        Raises:
            ProtocolFault: When the answer is none.
        """
        found = _FIRST.match(answer)
        if found is None or not found["nonce"].startswith(self._nonce):
            raise _wrong()
        rounds = int(found["rounds"])
        if rounds > _MOST_ROUNDS:
            raise _wrong()
        try:
            salt = base64.b64decode(found["salt"], validate=True)
        except ValueError:
            raise _wrong() from None
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, rounds)
        key = _hmac(salted, b"Client Key")
        bound = base64.b64encode(self._header + self._binding)
        without_proof = b"c=" + bound + b",r=" + found["nonce"]
        message = b",".join((self._bare, answer, without_proof))
        signature = _hmac(hashlib.sha256(key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        self._expected = b"v=" + base64.b64encode(_hmac(_hmac(salted, b"Server Key"), message))
        return without_proof + b",p=" + base64.b64encode(proof)

    def verify(self, answer: bytes) -> None:
        """Check that the server knows the password, too.

        Raises:
            ProtocolFault: When it does not.
        """
        if not self._expected or not hmac.compare_digest(answer, self._expected):
            reason = "{where} does not know the password that it asked for: is it another server?"
            raise ProtocolFault("WrongServer", reason, permanent=True)
        self.verified = True


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _wrong() -> ProtocolFault:
    reason = "{where} answered, but not as SCRAM has it"
    return ProtocolFault("WrongAnswer", reason, permanent=True)


_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def _prepared(password: str) -> bytes:
    """SASLprep (RFC 4013); as in PostgreSQL, a password that it prohibits is taken as it is."""
    raw = password.encode("utf-8", "surrogateescape")
    if password.isascii():
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(one) else one
        for one in password
        if not stringprep.in_table_b1(one)
    )
    text = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    first_last = {*text[:1], *text[-1:]}
    right_to_left = any(map(stringprep.in_table_d1, text))
    mixed = right_to_left and (
        any(map(stringprep.in_table_d2, text)) or not all(map(stringprep.in_table_d1, first_last))
    )
    prohibited = any(check(one) for one in text for check in _PROHIBITED)
    unassigned = any(map(stringprep.in_table_a1, text))
    return raw if not text or mixed or prohibited or unassigned else text.encode()


_HASHES = {
    # The last bytes of the object identifiers of signatures, RFC 4055 and RFC 5758.
    bytes.fromhex("2a864886f70d01010c"): "sha384",
    bytes.fromhex("2a864886f70d01010d"): "sha512",
    bytes.fromhex("2a864886f70d01010e"): "sha224",
    bytes.fromhex("2a8648ce3d040301"): "sha224",
    bytes.fromhex("2a8648ce3d040303"): "sha384",
    bytes.fromhex("2a8648ce3d040304"): "sha512",
}


def fingerprint(certificate: bytes) -> bytes:
    """The hash of a certificate, by the hash of its signature; SHA-256 in place of older ones.

    A certificate is a sequence of what is signed, the algorithm, and the signature. An algorithm
    that says its hash in its parameters, or has none, cannot be used.

    Raises:
        ProtocolFault: When the certificate is malformed.
    """
    try:
        start, _ = _inside(certificate, 0)
        _, end_of_signed = _inside(certificate, start)
        algorithm, _ = _inside(certificate, end_of_signed)
        identifier, end = _inside(certificate, algorithm)
    except IndexError:
        raise _wrong() from None
    return hashlib.new(_HASHES.get(certificate[identifier:end], "sha256"), certificate).digest()


def _inside(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of a value in DER begins and ends."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(data[start : start + size]), start + size
    return start, start + length
