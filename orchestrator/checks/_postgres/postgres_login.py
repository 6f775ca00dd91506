"""Logging in to PostgreSQL: https://www.postgresql.org/docs/current/protocol-flow.html."""

import hashlib

from orchestrator._probing.deadline_stream import DeadlineStream
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator.checks._postgres.postgres_settings import PostgresServer, PostgresSettings
from orchestrator.checks._postgres.postgres_wire import (
    PostgresError,
    message,
    receive_message,
    startup,
    text,
    wrong_answer,
)
from orchestrator.checks._postgres.sasl import fingerprint, prepared
from orchestrator.checks._scram import Scram, ScramError

_PLAIN, _BOUND = "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"
_OK, _CLEARTEXT, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12
_METHODS = {_OK: "none", _CLEARTEXT: "password", _MD5: "md5", _SASL: "scram-sha-256"}
"""What the server may ask for, as `require_auth` calls it."""


class PostgresLogin:
    """One login on a new connection.

    Args:
        stream: The connection.
        settings: How to log in.
        server: The server.
    """

    def __init__(
        self, stream: DeadlineStream, settings: PostgresSettings, server: PostgresServer
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._server = server
        self._binding = settings.options["channel_binding"]
        self._asked = False
        self._scram: Scram | None = None

    def run(self) -> None:
        """Go from the first message to the first `ReadyForQuery`.

        Raises:
            ProtocolFault: When the server does not let us in, or must not be trusted.
        """
        settings = self._settings
        parameters = {"user": settings.user, "database": settings.database}
        for name in ("application_name", "options"):
            if value := settings.options.get(name):
                parameters[name] = value
        self._stream.write(startup(parameters))
        while True:
            kind, body = receive_message(self._stream)
            match kind:
                case b"E":
                    raise PostgresError(body)
                case b"R":
                    self._authenticate(int.from_bytes(body[:4]), body[4:])
                case b"Z":
                    return
                case b"S" | b"K" | b"N" | b"v":
                    pass
                case _:
                    raise wrong_answer()

    def _authenticate(self, request: int, data: bytes) -> None:
        """Answer one request."""
        if request == _OK:
            if self._scram is not None and not self._scram.verified:
                raise wrong_answer()
            if not self._asked:
                self._allow(_OK)
        elif request in _METHODS:
            self._asked = True
            self._allow(request)
            self._send_password(request, data)
        elif self._scram is not None and request == _SASL_CONTINUE:
            try:
                self._send(self._scram.final(data))
            except (ScramError, UnicodeError):
                raise wrong_answer() from None
        elif self._scram is not None and request == _SASL_FINAL:
            self._verify(self._scram, data)
        else:
            reason = "{where} asks for a way to log in that this check does not know: use call(fn)"
            raise ProtocolFault("AuthenticationMethod", reason, permanent=True)

    def _allow(self, request: int) -> None:
        """Refuse what the DSN rules out: the one who asks may be an impostor."""
        wanted = self._settings.options.get("require_auth", "").replace(" ", "")
        name = _METHODS[request]
        ruled_out = {one[1:] for one in wanted.split(",") if one.startswith("!")}
        listed = {one for one in wanted.split(",") if one and not one.startswith("!")}
        refused = name in ruled_out or (listed and name not in listed)
        if refused or (self._binding == "require" and request != _SASL):
            reason = f"{{where}} asks for {name} to log in, which require_auth or channel_binding"
            raise ProtocolFault("AuthenticationMethod", f"{reason} rules out", permanent=True)

    def _send_password(self, request: int, data: bytes) -> None:
        password = self._settings.password(self._server)
        if not password:
            reason = "{where} wants a password, and none was given"
            raise ProtocolFault("AuthenticationError", reason, permanent=True)
        if request == _CLEARTEXT:
            self._send(text(password))
        elif request == _MD5:
            self._send(text(_md5(password, self._settings.user, data[:4])))
        else:
            self._begin_scram(password, {one.decode("latin-1") for one in data.split(b"\0")})

    def _begin_scram(self, password: str, offered: set[str]) -> None:
        certificate = self._stream.tls_certificate
        can_bind = certificate is not None and self._binding != "disable"
        bind = can_bind and _BOUND in offered
        if self._binding == "require" and not bind:
            reason = "{where} cannot bind the login to TLS, and channel_binding asks for it"
            raise ProtocolFault("AuthenticationMethod", reason, permanent=True)
        if not bind and _PLAIN not in offered:
            raise wrong_answer()
        header, binding = b"y,," if can_bind else b"n,,", b""
        if bind and certificate is not None:
            header, binding = b"p=tls-server-end-point,,", fingerprint(certificate)
        # PostgreSQL knows the user already, and takes no name here.
        self._scram = Scram("sha256", "", prepared(password), header=header, binding=binding)
        first = self._scram.first()
        self._send(text(_BOUND if bind else _PLAIN) + len(first).to_bytes(4) + first)

    def _verify(self, scram: Scram, data: bytes) -> None:
        try:
            scram.verify(data)
        except (ScramError, UnicodeError):
            reason = "{where} does not know the password that it asked for: is it another server?"
            raise ProtocolFault("WrongServer", reason, permanent=True) from None

    def _send(self, body: bytes) -> None:
        self._stream.write(message(b"p", body))


def _md5(password: str, user: str, salt: bytes) -> str:
    """As the protocol has it; FIPS allows it where it is not for security."""

    def digest(data: bytes) -> str:
        return hashlib.md5(data, usedforsecurity=False).hexdigest()

    inner = digest((password + user).encode("utf-8", "surrogateescape"))
    return "md5" + digest(inner.encode() + salt)
