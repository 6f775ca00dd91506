"""One connection to PostgreSQL: TLS, login, and one query for each attempt."""

import ssl
from collections.abc import Callable, Sequence
from typing import NamedTuple

from orchestrator._probing.deadline_stream import DeadlineStream
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator._probing.stream_session import StreamPhase, StreamSession
from orchestrator._probing.tls_files import client_context
from orchestrator.checks._postgres.postgres_login import PostgresLogin
from orchestrator.checks._postgres.postgres_settings import PostgresServer, PostgresSettings
from orchestrator.checks._postgres.postgres_wire import (
    SSL_REQUEST,
    TERMINATE,
    PostgresError,
    first_column,
    message,
    not_postgres,
    receive_message,
    text,
    wrong_answer,
)

_READ_ONLY = "SHOW transaction_read_only"
_STANDBY = "SELECT pg_catalog.pg_is_in_recovery()"


class _SessionQuestion(NamedTuple):
    query: str
    answer: bytes
    otherwise: str


_QUESTIONS = {
    "read-write": _SessionQuestion(
        _READ_ONLY, b"off", "is read-only, and the DSN requires read-write"
    ),
    "read-only": _SessionQuestion(_READ_ONLY, b"on", "is not read-only, as the DSN requires"),
    "primary": _SessionQuestion(_STANDBY, b"f", "is a standby, and the DSN requires a primary"),
    "standby": _SessionQuestion(_STANDBY, b"t", "is not a standby, as the DSN requires"),
    "any": _SessionQuestion("SELECT 1", b"1", "answered SELECT 1 with something other than 1"),
}
"""What is asked, by `target_session_attrs`; each works on all versions of the server."""

_VERSIONS = {
    "TLSv1": ssl.TLSVersion.TLSv1,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
}
_WAYS = {"disable": (False,), "allow": (False, True), "prefer": (True, False)}
"""Whether to speak TLS, first and then."""

_TLS_ALERT = b"\x15"

_NO_ENTRY = "28000"
"""No line of pg_hba.conf matches, which may be because TLS is missing, or because it is there."""


class PostgresSession(StreamSession[PostgresServer]):
    """Asks whether the server answers a query.

    Args:
        source: Gives the settings for a new connection. It may block: it may be the application's.
        first: The server to name before that was called.
    """

    plain = "use sslmode=disable"
    goodbye = TERMINATE

    def __init__(self, source: Callable[[], PostgresSettings], first: PostgresServer) -> None:
        super().__init__(first)
        self._source = source
        self._settings: PostgresSettings | None = None
        self._is_plain = True

    def places(self) -> Sequence[PostgresServer]:
        """The servers, as the DSN, the environment and the application name them now."""
        self.phase = StreamPhase.SETTINGS
        self._settings = self.interruption.uninterruptible(self.phase, self._settings_now)
        return self._settings.servers

    def _settings_now(self) -> PostgresSettings:
        try:
            return self._source()
        except ProtocolFault:
            raise
        except BaseException as error:
            name = type(error).__name__
            raise ProtocolFault(name, f"the settings for {{where}} raised {name}") from None

    def open_at(self, place: PostgresServer, until: float, patience_seconds: float) -> None:
        """Connect and log in; with sslmode allow or prefer, also the other way."""
        mode = "disable" if place.path else self._now.options["sslmode"]
        if self._now.tls is not None and not place.path:
            mode = "require"
        first, *other = _WAYS.get(mode, (True,))
        try:
            self._enter_by(place, until, patience_seconds, tls=first, optional=mode == "prefer")
        except (ssl.SSLError, PostgresError) as error:
            refused = isinstance(error, PostgresError) and error.code != _NO_ENTRY
            if refused or not other or self._is_plain == first or self.interruption.interrupted:
                raise
            self.close()
            try:
                self._enter_by(place, until, patience_seconds, tls=other[0], optional=False)
            except ProtocolFault as second:
                raise error if second.failure.error_type == "TlsMismatch" else second from None

    def _enter_by(
        self,
        place: PostgresServer,
        until: float,
        patience_seconds: float,
        *,
        tls: bool,
        optional: bool,
    ) -> None:
        stream = self.connect_to(place, until, patience_seconds)
        self._is_plain = not tls
        if tls:
            self._is_plain = not self._secure(stream, place, optional=optional)
        self.phase = StreamPhase.LOGIN
        self.log_in(stream, place)

    @property
    def _now(self) -> PostgresSettings:
        assert self._settings is not None, "places() comes first"
        return self._settings

    # -- TLS --------------------------------------------------------------------------------------

    def _secure(self, stream: DeadlineStream, place: PostgresServer, *, optional: bool) -> bool:
        """Begin TLS; return False where there is none and it is optional."""
        self.phase = StreamPhase.LOGIN
        options = self._now.options
        if options.get("sslnegotiation") != "direct":
            stream.write(SSL_REQUEST)
            answer = stream.read(1)
            if answer == _TLS_ALERT:
                reason = "{where} expects TLS from the first byte: add sslnegotiation=direct"
                raise ProtocolFault("TlsMismatch", reason, permanent=True)
            # More than one byte is another protocol, or someone in between who adds data that would
            # count as secured once TLS has begun (CVE-2021-23222).
            if answer not in (b"S", b"N", b"E") or (answer != b"E" and stream.has_extra()):
                raise not_postgres()
            if answer == b"N" and optional:
                return False
            if answer != b"S":
                reason = "{where} offers no TLS, and sslmode asks for it"
                raise ProtocolFault("TlsMismatch", reason, permanent=True)
        self.phase = StreamPhase.TLS
        context = self._now.tls or self._context()
        sends_name = options.get("sslsni") != "0" or context.check_hostname
        stream.start_tls(context, place.host if sends_name else None)
        return True

    def _context(self) -> ssl.SSLContext:
        options = self._now.options
        mode, files = options["sslmode"], self._now.files
        system = options.get("sslrootcert") == "system"
        strict = mode in ("verify-ca", "verify-full")
        if strict and not (files.authorities or system):
            reason = (
                f"no TLS to {{where}}: sslmode={mode} needs sslrootcert, or ~/.postgresql/root.crt"
            )
            raise ProtocolFault("CertificateError", reason, permanent=True)
        # As in libpq, authorities that exist are used in any mode.
        verify = strict or bool(files.authorities)
        context = client_context(files, verify=verify, check_hostname=mode == "verify-full")
        try:
            if crl := options.get("sslcrl"):
                context.load_verify_locations(crl)
                context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        except (OSError, ValueError):
            reason = "no TLS to {where}: sslcrl names no list that can be read"
            raise ProtocolFault("CertificateError", reason, permanent=True) from None
        if (lowest := options.get("ssl_min_protocol_version")) is not None:
            context.minimum_version = _VERSIONS[lowest]
        if (highest := options.get("ssl_max_protocol_version")) is not None:
            context.maximum_version = _VERSIONS[highest]
        if options.get("sslnegotiation") == "direct":
            context.set_alpn_protocols(["postgresql"])
        return context

    # -- asking -----------------------------------------------------------------------------------

    def log_in(self, stream: DeadlineStream, place: PostgresServer) -> None:
        """From the first message to the first `ReadyForQuery`."""
        PostgresLogin(stream, self._now, place).run()

    def ask_on(self, stream: DeadlineStream) -> None:
        """Send the query that shows whether the server is what it must be."""
        stream.write(message(b"Q", text(_QUESTIONS[self._place.wants].query)))

    def hear_from(self, stream: DeadlineStream) -> None:
        """Read up to `ReadyForQuery`; what comes unasked, such as a notice, is skipped."""
        question = _QUESTIONS[self._place.wants]
        answer = b""
        while True:
            kind, body = receive_message(stream)
            match kind:
                case b"E":
                    raise PostgresError(body)
                case b"D":
                    answer = first_column(body)
                case b"Z":
                    break
                case b"R":
                    raise wrong_answer()
        if answer != question.answer:
            raise ProtocolFault("WrongSession", f"{{where}} {question.otherwise}")
