"""The probe that a URL stands for."""

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from orchestrator._hardening.arguments import require
from orchestrator._hardening.text import bracketed, mistake_in
from orchestrator._ports import Probe
from orchestrator.checks._file_probe import file
from orchestrator.checks._grpc_probe import grpc
from orchestrator.checks._http_probe import http
from orchestrator.checks._kafka.kafka_probe import kafka
from orchestrator.checks._tcp_probe import tcp

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,29})://", re.IGNORECASE)


def scheme_of(url: str) -> str:
    """The scheme of a URL, in small letters and without a driver's name; empty for none.

    What SQLAlchemy writes, as `postgresql+asyncpg`, and Heroku, as `postgres`, is `postgresql`;
    Celery's `pyamqp` is `amqp`.
    """
    found = _SCHEME.match(url)
    scheme = found[1].lower() if found else ""
    if scheme.partition("+")[0] in ("postgres", "postgresql"):
        return "postgresql"
    return "amqp" if scheme == "pyamqp" else scheme


def from_url(url: str) -> Probe:
    """A probe by its URL, as in a setting.

    Example::

        Check("billing", from_url(os.environ["BILLING_URL"]))

    - `http://HOST/PATH`, `https://...`: `http`; a user and a password are sent as basic
      authorization.
    - `tcp://HOST:PORT`: `tcp`.
    - `file:///PATH`, `file:///PATH?newer_than_seconds=60`: `file`.
    - `grpc://HOST:PORT`, `grpc://HOST:PORT/SERVICE`, `grpcs://...` with TLS: `grpc`.
    - `kafka://HOST:PORT,HOST:PORT`, `kafka+ssl://...` with TLS: `kafka`; a user and a password need
      `?sasl=PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    - `postgresql://USER:PASSWORD@HOST/DATABASE`, also `postgres://` and with a driver: `postgres`.
    - `amqp://USER:PASSWORD@HOST/VHOST`, `amqps://...`: `amqp`.

    For Redis, give its URL to `RedisProbe`.

    Args:
        url: What is asked.

    Raises:
        TypeError: When it is not text.
        ValueError: When it cannot be asked. The text holds nothing of the URL but its scheme.
    """
    require(url, str, "url", "write from_url('tcp://db.internal:5432')")
    scheme = scheme_of(url)
    if scheme not in _MAKERS:
        raise unknown(url, (f"{known}://" for known in SCHEMES))
    try:
        return _MAKERS[scheme](url)
    except ModuleNotFoundError as missing:  # its text says what to install
        raise ValueError(str(missing)) from None


def unknown(url: str, known: Iterable[str]) -> ValueError:
    """The error for a URL with a scheme that no probe has, or without one."""
    scheme = scheme_of(url)
    what = f"it {mistake_in(url, 'does not begin with a scheme')}"
    what = "nothing here can ask that" if scheme else what
    return ValueError(f"{what}; write one of {', '.join(known)}")


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.hostname
    except ValueError:
        raise ValueError("it is not a URL: percent-encode special characters in it") from None
    return parts


def _http(url: str) -> Probe:
    parts = _parts(url)
    if parts.username is None:
        return http(url)
    login = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    headers = {"Authorization": "Basic " + base64.b64encode(login).decode()}
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return http(bare, headers=headers)


def _tcp(url: str) -> Probe:
    parts = _parts(url)
    if parts.path.strip("/") or parts.query or parts.username is not None:
        raise ValueError("write tcp://HOST:PORT and nothing else")
    return tcp(parts.hostname or "", _port(parts))


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:
        port = None
    if not port:
        raise ValueError(f"it needs a port from 1 to 65535, as in {parts.scheme}://HOST:PORT")
    return port


def _file(url: str) -> Probe:
    parts = _parts(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    age = options.pop("newer_than_seconds", None)
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/") or options:
        raise ValueError("write file:///PATH, or file:///PATH?newer_than_seconds=60")
    try:
        newer = None if age is None else float(age)
    except ValueError:
        raise ValueError("newer_than_seconds is not a number; give seconds") from None
    return file(unquote(parts.path), newer_than_seconds=newer)


def _grpc(url: str) -> Probe:
    parts = _parts(url)
    if parts.query or parts.username is not None:
        raise ValueError("write grpc://HOST:PORT or grpc://HOST:PORT/SERVICE and nothing else")
    address = f"{bracketed(parts.hostname or '')}:{_port(parts)}"
    return grpc(address, unquote(parts.path[1:]), tls=parts.scheme == "grpcs")


def _kafka(url: str) -> Probe:
    parts = _parts(url)
    login, _, servers = parts.netloc.rpartition("@")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    mechanism = options.pop("sasl", None)
    if parts.path.strip("/") or options:
        raise ValueError(
            "write kafka://HOST:PORT,HOST:PORT, or kafka://USER:PASSWORD@...?sasl=PLAIN"
        )
    if bool(login) != bool(mechanism):
        raise ValueError("sasl=PLAIN, or another mechanism, goes with a user and a password")
    user, _, password = login.partition(":")
    sasl = (mechanism, unquote(user), unquote(password)) if mechanism else None
    return kafka(servers, tls=parts.scheme == "kafka+ssl", sasl=sasl)


def _postgres(url: str) -> Probe:
    from orchestrator.checks._postgres.postgres_probe import postgres

    return postgres(url)


def _amqp(url: str) -> Probe:
    from orchestrator.checks._amqp.amqp_probe import amqp

    return amqp(url)


_MAKERS: Mapping[str, Callable[[str], Probe]] = {
    "postgresql": _postgres,
    "amqp": _amqp,
    "amqps": _amqp,
    "kafka": _kafka,
    "kafka+ssl": _kafka,
    "grpc": _grpc,
    "grpcs": _grpc,
    "http": _http,
    "https": _http,
    "tcp": _tcp,
    "file": _file,
}

SCHEMES = tuple(_MAKERS)
"""What `from_url` takes."""
