"""The settings of a connection, made from libpq's options."""

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator._hardening.arguments import MOST_PORT
from orchestrator._probing.addresses import Place, is_host
from orchestrator._probing.tls_files import TlsFiles
from orchestrator.checks._postgres.libpq_files import completed, home, password_from
from states._records import record

DEFAULT_PORT = 5432
_SOCKET_DIRECTORIES = ("/run/postgresql", "/var/run/postgresql", "/tmp")  # noqa: S108  libpq's own

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "sslmode": _MODES,
    "sslnegotiation": ("postgres", "direct"),
    "channel_binding": ("disable", "prefer", "require"),
    "target_session_attrs": (
        *("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    ),
    "gssencmode": ("disable", "prefer"),
    "ssl_min_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "ssl_max_protocol_version": ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
}
_DEFAULTS = {
    "sslmode": "prefer",
    "channel_binding": "prefer",
    "target_session_attrs": "any",
    "application_name": "startup-orchestrator",
}


@dataclass(frozen=True, slots=True)
class PostgresServer(Place):
    """One server to try.

    Attributes:
        wants: What it must be, as in `target_session_attrs`.
    """

    wants: str = "any"


@record
class PostgresSettings:
    """Where to connect and how to log in. Its `repr` shows nothing.

    Attributes:
        servers: In the order in which they are tried.
        user: Who logs in.
        database: Which database.
        options: All of libpq's options, completed by defaults.
        tls: The application's own TLS context, which is used instead of the files.
    """

    servers: tuple[PostgresServer, ...] = field(repr=False)
    user: str = field(repr=False)
    database: str = field(repr=False)
    options: Mapping[str, str] = field(repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def password(self, server: PostgresServer) -> str:
        """The password that was given, or the one in the password file for this server."""
        if said := self.options.get("password"):
            return said
        # libpq takes a Unix socket in the default directory for localhost.
        directory = str(Path(server.path).parent) if server.path else ""
        host = server.host or ("localhost" if directory in _SOCKET_DIRECTORIES else directory)
        wanted = host, str(server.port), self.database, self.user
        return password_from(self.options.get("passfile"), *wanted)

    @property
    def files(self) -> TlsFiles:
        """The files for TLS: those that were given, or those where libpq looks."""

        def said_or(name: str, default: str) -> str:
            path = home() / ".postgresql" / default
            try:
                return self.options.get(name) or (str(path) if path.exists() else "")
            except OSError:
                return ""

        authorities = said_or("sslrootcert", "root.crt")
        return TlsFiles(
            "" if authorities == "system" else authorities,
            certificate=(certificate := said_or("sslcert", "postgresql.crt")),
            key=said_or("sslkey", "postgresql.key") if certificate else "",
            password=self.options.get("sslpassword", ""),
            names=("sslrootcert", "sslcert", "sslkey"),
        )


def settings_of(options: Mapping[str, str], tls: ssl.SSLContext | None = None) -> PostgresSettings:
    """Complete the options, as libpq does.

    Raises:
        ValueError: When a value cannot be used. The text names the option, and never its value.
    """
    full = _DEFAULTS | completed(options, os.environ)
    for name, choices in _CHOICES.items():
        if full.get(name, choices[0]) not in choices:
            raise ValueError(f"the DSN's {name} must be one of {', '.join(choices)}")
    if full.get("sslrootcert") == "system":
        if options.get("sslmode", "verify-full") != "verify-full":
            raise ValueError("the DSN's sslrootcert=system needs sslmode=verify-full")
        full["sslmode"] = "verify-full"
    if full.get("sslnegotiation") == "direct" and full["sslmode"] in _MODES[:3]:
        raise ValueError("the DSN's sslnegotiation=direct needs sslmode=require or a stronger one")
    user = full.get("user") or _own_name()
    return PostgresSettings(_servers(full), user, full.get("dbname") or user, full, tls)


def _own_name() -> str:
    import getpass  # seldom needed

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise ValueError("the DSN names no user, and this process has none with a name") from None


def _servers(options: Mapping[str, str]) -> tuple[PostgresServer, ...]:
    hosts = options.get("host", "").split(",")
    addresses = options.get("hostaddr", "").split(",")
    if options.get("hostaddr") and not options.get("host"):
        hosts = [""] * len(addresses)
    elif len(addresses) != len(hosts):
        if options.get("hostaddr"):
            raise ValueError("the DSN needs one address (hostaddr) for each host")
        addresses = [""] * len(hosts)
    ports = options.get("port", "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    if len(ports) != len(hosts):
        raise ValueError("the DSN needs one port for each host, or one for all")
    wants = options["target_session_attrs"]
    rounds = ("standby", "any") if wants == "prefer-standby" else (wants,)
    return tuple(
        _server(host, address, port, one)
        for one in rounds
        for host, address, port in zip(hosts, addresses, ports, strict=True)
    )


def _server(host: str, address: str, port: str, wants: str) -> PostgresServer:
    if port and not (port.isdecimal() and 0 < int(port) <= MOST_PORT):
        raise ValueError(f"the DSN's port must be a number from 1 to {MOST_PORT}")
    number = int(port or DEFAULT_PORT)
    if not host and not address:
        there = [one for one in _SOCKET_DIRECTORIES if Path(one, _socket(number)).exists()]
        host = there[0] if there else "localhost"
    if host.startswith("/"):
        return PostgresServer("PostgreSQL", "", number, f"{host}/{_socket(number)}", wants=wants)
    if not all(map(is_host, filter(None, (host, address)))):
        raise ValueError(
            "the DSN has an invalid host name: special characters in the password must be"
            " percent-encoded"
        )
    return PostgresServer("PostgreSQL", host or address, number, address=address, wants=wants)


def _socket(port: int) -> str:
    return f".s.PGSQL.{port}"
