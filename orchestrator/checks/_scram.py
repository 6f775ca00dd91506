"""SCRAM (RFC 5802): takes names and passwords as they are, and binds to the channel if told to."""

import base64
import binascii
import hashlib
import hmac
import secrets

_MOST_ITERATIONS = 1_000_000
"""Kafka's and PostgreSQL's default is 4096. A server could otherwise keep a processor busy for as
long as it likes.
"""


class ScramError(Exception):
    """The server sent what none that knows the password would send."""


class Scram:
    """The client's side of one authentication.

    Args:
        hash_name: `sha256` or `sha512`.
        username: The name.
        password: The password.
        header: What it says about channel binding, RFC 5802 section 7.
        binding: What it is bound to.

    Attributes:
        verified: Whether the server has shown that it knows the password, too.
    """

    def __init__(
        self,
        hash_name: str,
        username: str,
        password: str,
        *,
        header: bytes = b"n,,",
        binding: bytes = b"",
    ) -> None:
        self._hash = hash_name
        self._password = password.encode("utf-8", "surrogateescape")
        self._header = header
        self._bound = base64.b64encode(header + binding).decode()
        self.verified = False
        name = username.replace("=", "=3D").replace(",", "=2C")
        self._nonce = secrets.token_urlsafe(24)
        self._bare = f"n={name},r={self._nonce}"
        self._signature = b""

    def first(self) -> bytes:
        """The client's first message."""
        return self._header + self._bare.encode()

    def final(self, server_first: bytes) -> bytes:
        """The client's final message, in answer to the server's first.

        Raises:
            ScramError: When that does not answer ours.
        """
        try:
            fields = _fields(server_first)
            nonce, count = fields["r"], int(fields["i"])
            salt = base64.b64decode(fields["s"], validate=True)
        except (KeyError, ValueError, binascii.Error):
            raise ScramError from None
        if not nonce.startswith(self._nonce) or not 0 < count <= _MOST_ITERATIONS:
            raise ScramError
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, salt, count)
        client_key = self._mac(salted, b"Client Key")
        without_proof = f"c={self._bound},r={nonce}"
        signed = b",".join((self._bare.encode(), server_first, without_proof.encode()))
        signature = self._mac(hashlib.new(self._hash, client_key).digest(), signed)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        self._signature = self._mac(self._mac(salted, b"Server Key"), signed)
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()

    def verify(self, server_final: bytes) -> None:
        """Check that the server knows the password, too.

        Raises:
            ScramError: When it does not.
        """
        try:
            signature = base64.b64decode(_fields(server_final)["v"], validate=True)
        except (KeyError, ValueError, binascii.Error):
            raise ScramError from None
        if not self._signature or not hmac.compare_digest(signature, self._signature):
            raise ScramError
        self.verified = True

    def _mac(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, self._hash)


def _fields(message: bytes) -> dict[str, str]:
    pairs = (part.partition("=") for part in message.decode().split(","))
    return {name: value for name, _, value in pairs}
