"""A Redis URL, read as redis-py reads it, but strictly, and without loading redis-py."""

import codecs
import math
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import ParseResult, parse_qs, unquote, urlparse

from orchestrator._hardening.arguments import wrong_type
from orchestrator._hardening.text import mistake_in
from orchestrator._probing.addresses import is_host
from orchestrator.redis._settings import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    RedisSettings,
    is_port,
    is_socket_path,
)

_RESP_VERSIONS = (2, 3)


def settings_of_url(url: str) -> RedisSettings:
    """Read a URL as redis-py does, but strictly, and without loading redis-py.

    Raises:
        TypeError: When it is no `str`.
        ValueError: When redis-py could not use the URL either, or when it has an obvious mistake.
            The text names the option and holds nothing else of the URL, since any part of a
            mistyped URL may be a part of its password.
    """
    if not isinstance(url, str):
        raise wrong_type(url, "the Redis URL", "a str", _remedy(url))
    try:
        parts = urlparse(url)
        port = parts.port
    except (ValueError, TypeError, AttributeError):
        raise ValueError(
            "the Redis URL is malformed: its port must be a number, and special characters in"
            " the password must be percent-encoded"
        ) from None
    if not url.startswith(("redis://", "rediss://", "unix://")):
        begin = "must begin with redis://, rediss:// or unix://"
        raise ValueError(f"the Redis URL {mistake_in(url, begin)}")
    if parts.fragment:
        raise ValueError("the Redis URL has a '#': write it as %23 in a password")
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    # A password with an unescaped '?' or '&' ends up among the options, and partly as a name.
    may_hold_password = "@" in parts.query or "password" in parts.query
    _check_options(parts.scheme, options, may_hold_password=may_hold_password)
    answer_seconds = _seconds(options.get("socket_timeout"))
    connect_seconds = _seconds(options.get("socket_connect_timeout"))
    where = _at_path(parts, options) if parts.scheme == "unix" else _at_host(parts, port, options)
    return RedisSettings(
        **where,  # type: ignore[arg-type]  # each of the two gives the fields their types
        url=url,
        tls=parts.scheme == "rediss",
        answer_seconds=answer_seconds,
        connect_seconds=connect_seconds or answer_seconds,
    )


def _remedy(given: object) -> str:
    """What to write instead of something that is no URL."""
    if given is None:
        return "is the variable that it comes from set?"
    if isinstance(given, bytes):
        return "decode it"
    if hasattr(given, "connection_pool"):
        return "write RedisProbe.from_client(client)"
    return "write str(...), if that is what it stands for"


def _at_path(parts: ParseResult, options: Mapping[str, str]) -> dict[str, object]:
    path = unquote(parts.path) or options.get("path", "")
    if not path:
        raise ValueError("the Redis URL names no Unix socket: unix:///path/to/socket")
    if not is_socket_path(path):
        raise ValueError("the Redis URL's path cannot be that of a Unix socket: 107 bytes at most")
    return {"path": path, "db": int(options.get("db", 0))}


def _at_host(parts: ParseResult, port: int | None, options: Mapping[str, str]) -> dict[str, object]:
    path = "" if "db" in options else unquote(parts.path).strip("/")
    if path and not path.isdecimal():
        raise ValueError("the Redis URL's path must be the number of a database, such as /0")
    return {
        "host": _host(unquote(parts.hostname or "") or options.get("host", DEFAULT_HOST)),
        "port": port or int(options.get("port", DEFAULT_PORT)),
        "db": int(options.get("db", path or 0)),
    }


def _host(host: str) -> str:
    if not is_host(host):
        raise ValueError(
            "the Redis URL has an invalid host name: special characters in the password"
            " must be percent-encoded"
        )
    return host


def _seconds(value: str | None) -> float | None:
    return None if value is None or float(value) == math.inf else float(value)


# -- options --------------------------------------------------------------------------------------


def _check_options(scheme: str, options: Mapping[str, str], *, may_hold_password: bool) -> None:
    for name, value in options.items():
        named = f", {name}" if name.isidentifier() and not may_hold_password else ""
        if name not in _KNOWN and not _is_known_to_redis_py(name):
            raise ValueError(
                f"the Redis URL has an option that redis-py does not know{named}: remove it"
                " (TLS is asked for by rediss://)"
            )
        if name in _OBJECTS:
            raise ValueError(f"the Redis URL's option {name} is a Python object, not text")
        if name.startswith("ssl_") and scheme != "rediss":
            raise ValueError(f"the Redis URL's option {name} is for TLS: begin with rediss://")
        if name in _OF_TCP and scheme == "unix":
            raise ValueError(f"the Redis URL's option {name} is for TCP, not for a Unix socket")
        if name == "path" and scheme != "unix":
            raise ValueError("the Redis URL's option path is for a Unix socket: begin with unix://")
        check = _KNOWN.get(name)
        if check is not None and not _passes(check, value):
            raise ValueError(f"the Redis URL's option {name} {_WANTED.get(name, _NO_SUCH_VALUE)}")


def _passes(check: Callable[[str], bool], value: str) -> bool:
    try:
        return check(value)
    except (ValueError, LookupError):
        return False


def _is_known_to_redis_py(name: str) -> bool:
    """Whether a redis-py that is newer than this list takes it. Loads redis-py, for this only."""
    try:
        from orchestrator.redis._redis_py_options import any_connections  # loads redis
    except ImportError:
        return True  # the first attempt says that redis-py is missing
    return name in any_connections()


def is_timeout(value: object) -> bool:
    """Whether a socket can be given this as its time limit, and can do anything within it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and 0 < value <= threading.TIMEOUT_MAX


def is_encoding(value: str) -> bool:
    """Whether Python knows the encoding."""
    codecs.lookup(value)
    return True


def is_error_handler(value: str) -> bool:
    """Whether Python knows this way to treat what cannot be encoded."""
    codecs.lookup_error(value)
    return True


def _any(_value: str) -> bool:
    return True


def _whole(value: str) -> bool:
    return value.isdecimal()


def _limit(value: str) -> bool:
    return float(value) == math.inf or is_timeout(float(value))


def _number(value: str) -> bool:
    return math.isfinite(float(value))


def _port(value: str) -> bool:
    return value.isdecimal() and is_port(int(value))


def _verify_flags(value: str) -> bool:
    return all(ssl.VerifyFlags[name.strip()] for name in value.strip("[]").split(","))


_KNOWN: Final[Mapping[str, Callable[[str], bool]]] = {
    "db": _whole,
    "username": _any,
    "password": _any,
    "host": _any,
    "port": _port,
    "path": _any,
    "protocol": lambda value: value.isdecimal() and int(value) in _RESP_VERSIONS,
    "client_name": _any,
    "decode_responses": _any,
    "encoding": is_encoding,
    "encoding_errors": is_error_handler,
    "health_check_interval": _whole,
    "legacy_responses": _any,
    "lib_name": _any,
    "lib_version": _any,
    "max_connections": _whole,
    "retry_on_error": _any,
    "retry_on_timeout": _any,
    "socket_connect_timeout": _limit,
    "socket_keepalive": _any,
    "socket_read_size": lambda value: value.isdecimal() and int(value) > 0,
    "socket_timeout": _limit,
    "timeout": _number,  # of BlockingConnectionPool
    "ssl_ca_certs": _any,
    "ssl_ca_data": _any,
    "ssl_ca_path": _any,
    "ssl_cert_reqs": lambda value: value in {"none", "optional", "required"},
    "ssl_certfile": _any,
    "ssl_check_hostname": _any,
    "ssl_ciphers": _any,
    "ssl_exclude_verify_flags": _verify_flags,
    "ssl_include_verify_flags": _verify_flags,
    "ssl_keyfile": _any,
    "ssl_min_version": lambda value: bool(ssl.TLSVersion(int(value))),
    "ssl_password": _any,
    "ssl_validate_ocsp": _any,
    "ssl_validate_ocsp_stapled": _any,
}
"""What a URL may have from redis-py 5.0 to 8.1, and what its value must be like."""

_NO_SUCH_VALUE = "has no such value"

_WANTED: Final[Mapping[str, str]] = {
    "db": "must be a whole number",
    "port": "must be a port's number",
    "protocol": "must be 2 or 3",
    "encoding": "is no encoding that Python knows",
    "encoding_errors": "is no error handler that Python knows",
    "health_check_interval": "must be a whole number of seconds",
    "max_connections": "must be a whole number",
    "socket_connect_timeout": "must be a number of seconds above 0",
    "socket_read_size": "must be a whole number of bytes above 0",
    "socket_timeout": "must be a number of seconds above 0",
    "timeout": "must be a number of seconds",
}

_OF_TCP = frozenset({"host", "port", "socket_keepalive"})

_OBJECTS = frozenset(
    {
        "cache",
        "cache_config",
        "command_packer",
        "connection_class",
        "credential_provider",
        "driver_info",
        "encoder_class",
        "event_dispatcher",
        "himport_registry",
        "maint_notifications_config",
        "maint_notifications_pool_handler",
        "oss_cluster_maint_notifications_handler",
        "parser_class",
        "queue_class",
        "redis_connect_func",
        "retry",
        "socket_keepalive_options",
        "socket_type",
        "ssl_ocsp_context",
        "ssl_ocsp_expected_cert",
    }
)
"""Options that redis-py takes over from a URL as text, and then fails with."""
