"""The URLs for which redis-py is not needed, and their options, read as it reads them."""

from collections.abc import Mapping
from urllib.parse import parse_qs, unquote, urlparse

from orchestrator.redis._installed import InstalledRedisPy, installed_redis_py
from orchestrator.redis._resp import RESP3
from orchestrator.redis._settings import RedisSettings

_OPTIONS = frozenset(
    {
        *("db", "host", "path", "port", "socket_connect_timeout", "socket_timeout"),
        *("client_name", "password", "protocol", "username"),
        # Of the client's own pools, attempts and replies.
        *("decode_responses", "health_check_interval", "max_connections", "retry_on_timeout"),
        "socket_read_size",
    }
)
"""What every redis-py takes, and the probe can do for itself."""


def is_plain(settings: RedisSettings) -> bool:
    """Whether the probe connects and greets as redis-py would, without it."""
    installed = installed_redis_py()
    return installed is not None and plain_options(settings, installed) is not None


def plain_options(settings: RedisSettings, installed: InstalledRedisPy) -> Mapping[str, str] | None:
    """The options of a URL for which redis-py is not needed.

    `None` where it is: for TLS, a client's settings, and options of which only redis-py knows what
    they do.
    """
    if settings.tls or not settings.url:
        return None
    parts = urlparse(settings.url)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    # Before 8.1, redis-py decodes these twice.
    if not options.keys() <= _OPTIONS or any("%" in value for value in options.values()):
        return None
    if settings.path and installed.protocol_of(options) == RESP3 and not installed.greets_on_unix:
        return None
    for name, given in (("username", parts.username), ("password", parts.password)):
        if given:
            options[name] = unquote(given)
    return options
