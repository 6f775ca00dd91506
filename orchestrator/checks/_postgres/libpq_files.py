"""What libpq reads besides the connection string: variables, the service file, the password file.

https://www.postgresql.org/docs/current/libpq-envars.html, libpq-pgservice.html, libpq-pgpass.html.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from orchestrator.checks._postgres.conninfo import TAKEN

_VARIABLES = {
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGPORT": "port",
    "PGDATABASE": "dbname",
    "PGUSER": "user",
    "PGPASSWORD": "password",
    "PGPASSFILE": "passfile",
    "PGSERVICE": "service",
    "PGSERVICEFILE": "servicefile",
    "PGOPTIONS": "options",
    "PGAPPNAME": "application_name",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
    "PGSSLMODE": "sslmode",
    "PGSSLNEGOTIATION": "sslnegotiation",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCRL": "sslcrl",
    "PGSSLSNI": "sslsni",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
    "PGCHANNELBINDING": "channel_binding",
    "PGREQUIREAUTH": "require_auth",
    "PGGSSENCMODE": "gssencmode",
}


def completed(options: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The options; those not given come from the service, and then from the environment.

    Raises:
        ValueError: When a service is asked for that is not there.
    """
    of_environment = {
        option: environ[name] for name, option in _VARIABLES.items() if environ.get(name)
    }
    both = of_environment | {name: value for name, value in options.items() if value}
    service = both.get("service")
    if not service:
        return both
    return of_environment | _of_service(service, both.get("servicefile"), environ) | {**options}


def home() -> Path:
    """The home directory; the current one for a user who has none."""
    return Path(os.path.expanduser("~"))  # noqa: PTH111  Path.home() raises without one


def _of_service(name: str, file: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    from configparser import Error, RawConfigParser  # few have such a file

    system = Path(environ.get("PGSYSCONFDIR", "/etc/postgresql-common")) / "pg_service.conf"
    for path in (Path(file) if file else home() / ".pg_service.conf", system):
        parser = RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=False)
        try:
            parser.read_string(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, Error):
            continue
        if parser.has_section(name):
            return {key: value for key, value in parser.items(name) if key in TAKEN}
    raise ValueError("the service of the DSN, or PGSERVICE, is in no service file that can be read")


def password_from(passfile: str | None, *wanted: str) -> str:
    """The password of the first line that fits host, port, database and user; empty for none."""
    path = Path(passfile) if passfile else home() / ".pgpass"
    try:
        mode = path.stat().st_mode
        # As libpq does: what others may read does not count, and neither does a device.
        if not stat.S_ISREG(mode) or mode & (stat.S_IRWXG | stat.S_IRWXO):
            return ""
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except (OSError, ValueError):
        return ""
    for line in lines:
        if line.startswith("#"):
            continue
        fields = [re.sub(r"\\(.)", r"\1", one) for one in re.split(r"(?<!\\):", line, maxsplit=4)]
        if len(fields) > len(wanted) and all(
            field in ("*", value) for field, value in zip(fields, wanted, strict=False)
        ):
            return fields[len(wanted)]
    return ""
