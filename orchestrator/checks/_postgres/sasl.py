"""What PostgreSQL adds to SCRAM: how passwords are prepared, and what a login is bound to."""

import hashlib
import stringprep
import unicodedata

from orchestrator.checks._postgres.postgres_wire import wrong_answer

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


def prepared(password: str) -> str:
    """SASLprep (RFC 4013); as in PostgreSQL, a password that it prohibits is taken as it is."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(one) else one
        for one in password
        if stringprep.in_table_c12(one) or not stringprep.in_table_b1(one)
    )
    text = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    first_last = {*text[:1], *text[-1:]}
    right_to_left = any(map(stringprep.in_table_d1, text))
    mixed = right_to_left and (
        any(map(stringprep.in_table_d2, text)) or not all(map(stringprep.in_table_d1, first_last))
    )
    prohibited = any(check(one) for one in text for check in _PROHIBITED)
    unassigned = any(map(stringprep.in_table_a1, text))
    return password if not text or mixed or prohibited or unassigned else text


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
    """The hash of a certificate by that of its signature, RFC 5929; SHA-256 in place of older ones.

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
        raise wrong_answer() from None
    return hashlib.new(_HASHES.get(certificate[identifier:end], "sha256"), certificate).digest()


def _inside(data: bytes, at: int) -> tuple[int, int]:
    """Where the content of a value in DER begins and ends."""
    length, start = data[at + 1], at + 2
    if length & 0x80:
        size = length & 0x7F
        length, start = int.from_bytes(data[start : start + size]), start + size
    return start, start + length
