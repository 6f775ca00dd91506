"""Where a Redis is and how to log in there, taken from a URL or from the application's client."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import ParseResult, parse_qs, unquote, urlparse

from orchestrator._arguments import wrong_type
from orchestrator._ports import Target
from orchestrator.redis._expect import Expect

if TYPE_CHECKING:
    import redis
    import redis.asyncio
    from redis.credentials import CredentialProvider

_DEFAULT_HOST = "localhost"
_DEFAULT_PORT = 6379
_RESP_VERSIONS = (2, 3)


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """One Redis and the way in. Its `repr` shows no secret.

    Attributes:
        host: The host name or address; also what a certificate must be for.
        port: The TCP port.
        path: The path of a Unix socket, which is used instead of host and port; empty for TCP.
        db: The number of the database.
        protocol: The RESP version, 2 or 3.
        username: The user to log in as; empty for the default user.
        password: The password; empty for none.
        credential_provider: Gives user name and password anew for each connection.
        tls: The `ssl_*` options of redis-py; `None` for a connection without TLS.
        expect: What is asked besides PING.
        sentinels: Hosts and ports of sentinels, which name the server; empty for none.
        service_name: What the sentinels call the master.
        sentinel: How to log in to a sentinel; its host and port are not used.
    """

    host: str = _DEFAULT_HOST
    port: int = _DEFAULT_PORT
    path: str = ""
    db: int = 0
    protocol: int = 2
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    credential_provider: "CredentialProvider | None" = field(default=None, repr=False)
    tls: Mapping[str, object] | None = field(default=None, repr=False)
    expect: Expect = field(default_factory=Expect)
    sentinels: tuple[tuple[str, int], ...] = ()
    service_name: str = ""
    sentinel: "RedisSettings | None" = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """The place in words, such as `redis at 127.0.0.1:6379`."""
        if self.sentinels:
            return f"redis master {self.service_name!r}"
        if self.path:
            return f"redis at {self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis at {host}:{self.port}"

    @property
    def target(self) -> Target:
        """The place in the terms of telemetry."""
        if self.sentinels:
            # Which server is asked changes with every failover; the name is what stays.
            return Target(address=self.service_name, namespace=str(self.db))
        if self.path:
            return Target(address=self.path, namespace=str(self.db))
        return Target(address=self.host, port=self.port, namespace=str(self.db))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Read a URL as redis-py does, but strictly, and without loading redis-py.

        Raises:
            TypeError: When it is no `str`.
            ValueError: When the URL cannot be used. The text holds nothing of the URL, since any
                part of a mistyped URL may be a part of its password.
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
        if parts.scheme not in {"redis", "rediss", "unix"}:
            raise ValueError("the Redis URL must begin with redis://, rediss:// or unix://")
        if parts.fragment:
            raise ValueError("the Redis URL has a '#': write it as %23 in a password")
        options = _Options(parts.query)
        username = unquote(parts.username or "") or options.text("username")
        password = unquote(parts.password or "") or options.text("password")
        protocol = options.number("protocol", 2)
        if protocol not in _RESP_VERSIONS:
            raise ValueError("the Redis URL's protocol must be 2 or 3")
        if parts.scheme == "unix":
            path = unquote(parts.path)
            if not path:
                raise ValueError("the Redis URL names no Unix socket: unix:///path/to/socket")
            return cls(
                path=path,
                db=options.number("db", 0),
                protocol=protocol,
                username=username,
                password=password,
            )
        return cls(
            host=unquote(parts.hostname or _DEFAULT_HOST),
            port=port or _DEFAULT_PORT,
            db=_database(parts, options),
            protocol=protocol,
            tls=options.tls() if parts.scheme == "rediss" else None,
            username=username,
            password=password,
        )

    @classmethod
    def from_client(cls, client: "redis.Redis | redis.asyncio.Redis") -> Self:
        """Take over what the connections of a client are made with.

        Raises:
            TypeError: When it is no client.
            ValueError: When the client has no single address, as those of a cluster or a sentinel.
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
        made_with: Mapping[str, object] = pool.connection_kwargs
        return cls(
            host=str(made_with.get("host") or _DEFAULT_HOST),
            port=_whole(made_with.get("port"), _DEFAULT_PORT),
            path=str(made_with.get("path") or ""),
            db=_whole(made_with.get("db"), 0),
            protocol=_whole(made_with.get("protocol"), 2),
            username=_text(made_with.get("username")),
            password=_text(made_with.get("password")),
            credential_provider=made_with.get("credential_provider"),  # type: ignore[arg-type]  # redis-py expect no type either
            tls=_tls_of(pool.connection_class, made_with),
        )


def _remedy(given: object) -> str:
    """What to write instead of something that is no URL."""
    if given is None:
        return "is the variable set that it comes from?"
    if isinstance(given, bytes):
        return "decode it"
    if hasattr(given, "connection_pool"):
        return "write RedisProbe.from_client(client)"
    return "write str(...), if that is what it stands for"


def _database(parts: ParseResult, options: "_Options") -> int:
    if options.has("db"):
        return options.number("db", 0)
    path = unquote(parts.path).strip("/")
    if path and not path.isdecimal():
        raise ValueError("the Redis URL's path must be the number of a database, such as /0")
    return int(path or 0)


def _whole(value: object, default: int) -> int:
    return default if value is None else int(str(value))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _tls_of(
    connection_class: type[object], made_with: Mapping[str, object]
) -> Mapping[str, object] | None:
    # A class with "SSL" in its ancestry is what every version of redis-py uses, for sync and
    # asyncio; the two families share no base class that could be asked for instead.
    if not any("SSL" in base.__name__ for base in connection_class.__mro__):
        return None
    return {name: value for name, value in made_with.items() if name.startswith("ssl_")}


class _Options:
    """The query of a URL: the options that the probe needs; those of pools are passed over."""

    def __init__(self, query: str) -> None:
        self._values = {name: values[0] for name, values in parse_qs(query).items()}

    def has(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        return self._values.get(name, "")

    def number(self, name: str, default: int) -> int:
        value = self._values.get(name)
        if value is None:
            return default
        if not value.isdecimal():
            raise ValueError(f"the Redis URL's option {name} must be a whole number")
        return int(value)

    def tls(self) -> dict[str, object]:
        chosen: dict[str, object] = {}
        for name, value in self._values.items():
            if not name.startswith("ssl_"):
                continue
            try:
                chosen[name] = _TLS_OPTIONS.get(name, str)(value)
            except (ValueError, KeyError):
                raise ValueError(f"the Redis URL's option {name} has no such value") from None
        return chosen


def _flag(value: str) -> bool:
    return value.upper() not in {"0", "F", "FALSE", "N", "NO"}


def _verify_flags(value: str) -> list[ssl.VerifyFlags]:
    return [ssl.VerifyFlags[name.strip()] for name in value.strip("[]").split(",")]


def _cert_reqs(value: str) -> str:
    if value not in {"none", "optional", "required"}:
        raise ValueError
    return value


_TLS_OPTIONS: Mapping[str, Callable[[str], object]] = {
    "ssl_cert_reqs": _cert_reqs,
    "ssl_check_hostname": _flag,
    "ssl_min_version": lambda value: ssl.TLSVersion(int(value)),
    "ssl_include_verify_flags": _verify_flags,
    "ssl_exclude_verify_flags": _verify_flags,
    "ssl_validate_ocsp": _flag,
    "ssl_validate_ocsp_stapled": _flag,
}
