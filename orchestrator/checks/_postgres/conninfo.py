"""A connection string of libpq as options: a URI, or keywords and values.

https://www.postgresql.org/docs/current/libpq-connect.html, 34.1.1. URIs of SQLAlchemy, which
name a driver, may have the options of that driver, and their hosts among them.
"""

import re
from urllib.parse import unquote

from orchestrator._hardening.text import mistake_in

_URI = re.compile(r"(?P<scheme>postgres(?:ql)?)(?P<driver>\+\w+)?://", re.IGNORECASE)
_PAIR = re.compile(
    r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(?!')((?:[^\s\\]|\\.)*))(?=\s|$)", re.DOTALL
)
_HOST = re.compile(r"(?P<host>\[[^\]]*\]|/.*?|[^:]*)(?::(?P<port>\d*))?")

_MALFORMED = "percent-encode special characters in user, password and options"

TAKEN = frozenset(
    {
        *("host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service"),
        *("servicefile", "options", "application_name", "target_session_attrs"),
        *("sslmode", "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"),
        *("sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "channel_binding"),
        *("require_auth", "gssencmode"),
    }
)
"""What the check connects by."""

_LEFT = frozenset(
    {
        *("connect_timeout", "client_encoding", "fallback_application_name", "keepalives"),
        *("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
        *("sslcompression", "sslcertmode", "sslkeylogfile", "krbsrvname", "gsslib"),
        *("gssdelegation", "load_balance_hosts", "min_protocol_version", "max_protocol_version"),
        "requirepeer",
    }
)
"""What the check has numbers of its own for, or no use for."""


def options_of_dsn(dsn: str) -> dict[str, str]:
    """The options in a connection string.

    Raises:
        ValueError: When it is malformed, or has an unknown option. The text names the
            option, and holds nothing else of it.
    """
    if "\0" in dsn:
        raise ValueError("the DSN has a null character")
    found = _URI.match(dsn)
    if found is None:
        options = _of_keywords(dsn)
    else:
        options = _of_uri(dsn[found.end() :], driver=bool(found["driver"]))
    if options.get("password") == "***":
        raise ValueError(
            "the DSN's password is ***, as in str() of an SQLAlchemy URL: give the engine itself"
        )
    driver = found is not None and found["driver"]
    for name in options:
        if name not in TAKEN and name not in _LEFT and not driver:
            named = f": {name}" if re.fullmatch(r"[a-z_]{1,40}", name) else ""
            raise ValueError(f"the DSN has an unknown option{named}")
    return {name: value for name, value in options.items() if name in TAKEN}


def _of_keywords(dsn: str) -> dict[str, str]:
    options: dict[str, str] = {}
    position = 0
    while dsn[position:].strip():
        pair = _PAIR.match(dsn, position)
        if pair is None:
            malformed = (
                "is malformed: write postgresql://user:password@host/database, or host=..."
                " dbname=..., with values that have spaces in quotes"
            )
            raise ValueError(f"the DSN {mistake_in(dsn, malformed)}")
        name, quoted, plain = pair.groups()
        options[name] = re.sub(r"\\(.)", r"\1", plain if quoted is None else quoted)
        position = pair.end()
    return options


def _of_uri(rest: str, *, driver: bool) -> dict[str, str]:
    options: dict[str, str] = {}
    before_path = rest.partition("/")[0]
    if "@" in before_path:
        login, _, rest = rest.partition("@")
        user, colon, password = login.partition(":")
        options |= {"user": unquote(user)} if user else {}
        options |= {"password": unquote(password)} if colon else {}
    rest, _, query = rest.partition("?")
    hosts, _, path = rest.partition("/")
    if "@" in rest or "#" in rest:
        raise ValueError(f"the DSN has an invalid host name: {_MALFORMED}")
    options |= hosts_of([unquote(one) for one in hosts.split(",")] if hosts else [])
    if path:
        options["dbname"] = unquote(path)
    repeated: list[str] = []
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ValueError(f"the DSN's options are malformed: {_MALFORMED}")
        if name == "host" and driver:
            repeated += unquote(value).split(",")
        else:
            options |= dict([_option(unquote(name), unquote(value))])
    if repeated:
        options |= {**options, **hosts_of(repeated)} | {
            "port": options.get("port") or hosts_of(repeated).get("port", "")
        }
    return options


def _option(name: str, value: str) -> tuple[str, str]:
    """JDBC and asyncpg say `ssl`, with a mode or a flag."""
    if name != "ssl":
        return name, value
    return "sslmode", {"true": "require", "false": "disable"}.get(value.lower(), value)


def hosts_of(hosts: list[str]) -> dict[str, str]:
    """Hosts with their ports, as two options with commas."""
    names, ports = [], []
    for one in hosts:
        found = _HOST.fullmatch(one)
        if found is None:
            raise ValueError(f"the DSN's port must be a number: {_MALFORMED}")
        host = found["host"]
        names.append(host.strip("[]") if host.startswith("[") else host)
        ports.append(found["port"] or "")
    options = {"host": ",".join(names)} if any(names) else {}
    return options | ({"port": ",".join(ports)} if any(ports) else {})
