"""What the connections of the application's client are made with, or why the probe cannot be."""

import math
import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator._hardening.arguments import wrong_type
from orchestrator._probing.addresses import is_host
from orchestrator.redis._settings import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    RedisSettings,
    is_port,
    is_socket_path,
)
from orchestrator.redis._url import is_encoding, is_error_handler, is_timeout

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_INSTEAD = "give the probe the URL instead, or write a Probe of your own"


def settings_of_client(client: "redis.Redis | redis.asyncio.Redis") -> RedisSettings:
    """Take over what the connections of a client are made with; none of them is used.

    Raises:
        TypeError: When it is no client.
        ValueError: When the client has no single address, as those of a cluster or a sentinel; or
            connects in a way that the probe cannot take over, or with an option with which no
            connection of it can work. The text names it, without its value.
    """
    if isinstance(client, str | bytes | type) or not hasattr(client, "execute_command"):
        write = "write RedisProbe(url) for a URL"
        raise wrong_type(client, "client", "a client of redis-py", write)
    pool = getattr(client, "connection_pool", None)
    if pool is None or hasattr(pool, "sentinel_manager"):
        raise ValueError(
            f"{type(client).__name__} has no single address to ask; use"
            " RedisProbe.from_sentinel, or the URL of a node with Expect(cluster=True)"
        )
    kind = pool.connection_class
    options: dict[str, Any] = dict(pool.connection_kwargs)
    _refuse_classes_of_others(pool, kind)
    asynchronous = any(base.__module__.startswith("redis.asyncio") for base in kind.__mro__)
    for name in ("socket_timeout", "socket_connect_timeout"):
        if asynchronous and options.get(name) == math.inf:
            options[name] = None  # the same to an event loop, and too long for a socket
    _refuse_options(kind, options)
    _refuse_provider(options.get("credential_provider"), asynchronous=asynchronous)
    # A class with "SSL" in its ancestry is what every version of redis-py uses, for sync and
    # asyncio; the two families share no base class that could be asked for instead.
    tls = any("SSL" in base.__name__ for base in kind.__mro__)
    answer_seconds = options.get("socket_timeout")
    return RedisSettings(
        host=os.fsdecode(options.get("host") or DEFAULT_HOST),
        port=_whole(options.get("port"), DEFAULT_PORT),
        path=os.fsdecode(options.get("path") or ""),
        db=_whole(options.get("db"), 0),
        tls=tls,
        url="",
        options=options,
        asynchronous=asynchronous,
        connect_seconds=options.get("socket_connect_timeout") or answer_seconds,
        answer_seconds=answer_seconds,
    )


def _whole(value: str | bytes | float | None, default: int) -> int:
    return default if value is None else int(value)


def _is_of_redis_py(kind: type[object]) -> bool:
    return str(getattr(kind, "__module__", "")).split(".")[0] == "redis"


def _refuse_classes_of_others(pool: object, kind: type[object]) -> None:
    """What connects in a way of its own would not be asked in the same way."""
    if not _is_of_redis_py(kind):
        name = getattr(kind, "__name__", "")
        raise ValueError(
            f"the client's connection_class {name} is not one of redis-py's: the probe cannot"
            f" connect as it does; {_INSTEAD}"
        )
    for base in type(pool).__mro__:
        for method in ("get_connection", "make_connection"):
            if method in vars(base) and not _is_of_redis_py(base):
                raise ValueError(
                    f"the client's pool {base.__name__} has a {method} of its own: the probe cannot"
                    f" connect as it does; {_INSTEAD}"
                )


def _refuse_options(kind: type[object], options: Mapping[str, Any]) -> None:
    from orchestrator.redis._redis_py_options import refused_option  # loads redis

    refused = refused_option(kind, options)
    if refused is not None:
        named = f"option {refused}" if refused else "options"
        raise ValueError(f"redis-py cannot make a connection with the client's {named}: check it")
    for name, fits in _FITS.items():
        if (value := options.get(name)) is not None and not _passes(fits, value):
            raise ValueError(f"no connection of the client can work: check its option {name}")
    for name in ("encoder_class", "parser_class"):
        if (own := options.get(name)) is not None and not _is_of_redis_py(own):
            raise ValueError(
                f"the client's {name} is not one of redis-py's: the probe cannot read as it does;"
                f" {_INSTEAD}"
            )


def _passes(fits: Callable[[Any], bool], value: object) -> bool:
    try:
        return fits(value)
    except Exception:  # whatever it is, it cannot be used
        return False


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


_FITS: Mapping[str, Callable[[Any], bool]] = {
    "db": lambda value: int(value) >= 0 and not isinstance(value, bool),
    "encoding": is_encoding,
    "encoding_errors": is_error_handler,
    "health_check_interval": _is_number,
    "host": lambda value: is_host(os.fsdecode(value)),
    "path": lambda value: is_socket_path(os.fsdecode(value)),
    "port": lambda value: is_port(int(value)),
    "redis_connect_func": callable,
    "retry": lambda value: callable(value.call_with_retry),
    "socket_connect_timeout": is_timeout,
    "socket_keepalive_options": lambda value: isinstance(value, Mapping) or type(value) is object,
    "socket_read_size": lambda value: isinstance(value, int) and value > 0,
    "socket_timeout": is_timeout,
    "socket_type": lambda value: value in {0, socket.SOCK_STREAM},
}
"""What redis-py takes when it makes a connection, and fails with when it uses it."""


def _refuse_provider(provider: object, *, asynchronous: bool) -> None:
    if provider is None:
        return
    from redis.credentials import CredentialProvider  # the client has loaded it

    has_async = hasattr(CredentialProvider, "get_credentials_async")  # not in redis-py 5.0
    method = "get_credentials_async" if asynchronous and has_async else "get_credentials"
    found = getattr(type(provider), method, None)
    lacking = not callable(getattr(provider, method, None))
    if lacking or found is CredentialProvider.get_credentials:
        family = "redis.asyncio" if asynchronous else "redis.Redis"
        raise ValueError(f"the client's credential_provider has no {method}, which {family} calls")
