"""What redis-py's connections are made with. Importing this module imports redis."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import cast

import redis
import redis.asyncio

_KINDS: tuple[Callable[..., object], ...] = (
    redis.SSLConnection,
    redis.UnixDomainSocketConnection,
    redis.asyncio.SSLConnection,
    redis.asyncio.UnixDomainSocketConnection,
)

_PROBES_OWN = frozenset(
    {
        # The probe's attempts take the place of retries and health checks, and its deadline that
        # of time limits.
        "retry",
        "retry_on_error",
        "retry_on_timeout",
        "health_check_interval",
        "socket_connect_timeout",
        "socket_timeout",
        # Replies are judged as bytes.
        "decode_responses",
        # Each family has its own; those of redis-py are as good as each other.
        "encoder_class",
        "parser_class",
        # How much is read at once matters to the client alone. Of a URL, redis-py leaves it as text
        # before 8.1, which its asynchronous connections can live with.
        "socket_read_size",
        # What a pool shares among its connections; the probe's is not one of them.
        "event_dispatcher",
        "himport_registry",
        "maint_notifications_pool_handler",
        "oss_cluster_maint_notifications_handler",
        "orig_host_address",
        "orig_socket_connect_timeout",
        "orig_socket_timeout",
        "maintenance_state",
        "maintenance_notification_hash",
    }
)


def any_connections() -> frozenset[str]:
    """The names of the arguments that some connection of this redis-py takes."""
    return frozenset[str]().union(*(_arguments(kind) for kind in _KINDS))


@cache
def _arguments(kind: Callable[..., object]) -> frozenset[str]:
    """The names of the arguments that connections of class `kind` take."""
    return frozenset(
        name
        for base in inspect.getmro(cast("type[object]", kind))
        if "__init__" in vars(base)
        for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items()
        if parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
        and name != "self"
    )


def for_probe(
    options: Mapping[str, object], kind: Callable[..., object], *, asynchronous: bool
) -> dict[str, object]:
    """What the probe's connection of class `kind` takes over of those of the application."""
    known = _arguments(kind) - _PROBES_OWN
    own = {name: value for name, value in options.items() if name in known}
    # Before 8.0, clients of `redis.asyncio` take no certificate that comes without a key file.
    in_two_files = "ssl_password" not in _arguments(redis.asyncio.SSLConnection)
    whole = own.get("ssl_certfile") and own.get("ssl_keyfile")
    if asynchronous and in_two_files and not whole:
        own.pop("ssl_certfile", None)
        own.pop("ssl_keyfile", None)
    return own


def of_url(url: str) -> dict[str, object]:
    """What a pool of this redis-py makes its connections with, for a URL."""
    pool = redis.ConnectionPool.from_url(url)
    options = dict(pool.connection_kwargs)
    options.pop("timeout", None)  # of BlockingConnectionPool, which takes the same URLs
    names = {"driver_info", "lib_name", "lib_version"}
    if "driver_info" in _arguments(redis.Connection) and names.isdisjoint(options):
        options["driver_info"] = _driver_info()
    for name in ("ssl_validate_ocsp", "ssl_validate_ocsp_stapled"):
        # redis-py leaves them as text, which one of the two takes for false. Whoever writes this
        # wants it to be done.
        if isinstance(value := options.get(name), str):
            options[name] = value.upper() not in {"0", "F", "FALSE", "N", "NO"}
    return options


@cache
def _driver_info() -> object:
    """What redis-py says of itself by default. It takes milliseconds to find out its version."""
    from redis.driver_info import DriverInfo  # not there in all versions

    return DriverInfo()


def refused_option(make: Callable[..., object], options: Mapping[str, object]) -> str | None:
    """The name of the option with which no connection can be made; `None` if one can.

    Empty for several of them. Making a connection asks nothing of the network.
    """
    if _can(make, options):
        return None
    for name in options:
        if _can(make, {other: value for other, value in options.items() if other != name}):
            return name
    return ""


def _can(make: Callable[..., object], options: Mapping[str, object]) -> bool:
    try:
        make(**options)
    except Exception:  # whatever is raised for it, the client would raise, too
        return False
    return True
