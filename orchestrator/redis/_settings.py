"""Where a Redis is and how to log in there, taken from a URL or from the application's client."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from orchestrator._hardening.arguments import wrong_type
from orchestrator._hardening.text import one_line
from orchestrator._ports import Target
from orchestrator.redis._expect import Expect
from orchestrator.redis._given_client import read_client
from orchestrator.redis._url import DEFAULT_HOST, DEFAULT_PORT, read_url

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_MOST_PLACE_CHARACTERS = 300
"""A host has 253 at most, and the path of a Unix socket 108."""


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """One Redis and the way in. Its `repr` shows no secret.

    Attributes:
        host: The host name or address; also what a certificate must be for.
        port: The TCP port.
        path: The path of a Unix socket, which is used instead of host and port; empty for TCP.
        db: The number of the database.
        tls: Whether to speak TLS.
        url: The URL that all this is from; empty where it is from a client.
        options: What the client makes its connections with; empty where a URL says it.
        asynchronous: Whether the client is one of `redis.asyncio`.
        connect_seconds: The client's own limit for a connection; `None` for none.
        answer_seconds: The client's own limit for an answer; `None` for none.
        expect: What is asked besides PING.
        sentinels: Hosts and ports of sentinels, which name the server; empty for none.
        service_name: What the sentinels call the master.
        sentinel: How to log in to a sentinel; its host and port are not used.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    path: str = ""
    db: int = 0
    tls: bool = False
    url: str = field(default="redis://", repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    asynchronous: bool = False
    connect_seconds: float | None = None
    answer_seconds: float | None = None
    expect: Expect = field(default_factory=Expect)
    sentinels: tuple[tuple[str, int], ...] = ()
    service_name: str = ""
    sentinel: "RedisSettings | None" = field(default=None, repr=False)

    @property
    def where(self) -> str:
        """The place in words, such as `redis at 127.0.0.1:6379`: one printable line."""
        if self.sentinels:
            return one_line(f"redis master {self.service_name!r}", _MOST_PLACE_CHARACTERS)
        if self.path:
            return one_line(f"redis at {self.path}", _MOST_PLACE_CHARACTERS)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{one_line(f'redis at {host}', _MOST_PLACE_CHARACTERS)}:{self.port}"

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
            ValueError: When redis-py could not use the URL either, or when it has an obvious
                mistake. The text holds no value of the URL.
        """
        if not isinstance(url, str):
            raise wrong_type(url, "the Redis URL", "a str", _remedy(url))
        place = read_url(url)
        return cls(
            host=place.host,
            port=place.port,
            path=place.path,
            db=place.db,
            tls=place.tls,
            url=url,
            connect_seconds=place.connect_seconds,
            answer_seconds=place.answer_seconds,
        )

    @classmethod
    def from_client(cls, client: "redis.Redis | redis.asyncio.Redis") -> Self:
        """Take over what the connections of a client are made with.

        Raises:
            TypeError: When it is no client.
            ValueError: When the client has no single address, as those of a cluster or a sentinel;
                or connects in a way that cannot be taken over, or that cannot work.
        """
        if isinstance(client, str | bytes | type) or not hasattr(client, "execute_command"):
            write = "write RedisProbe(url) for a URL"
            raise wrong_type(client, "client", "a client of redis-py", write)
        made = read_client(client)
        answer_seconds = made.options.get("socket_timeout")
        return cls(
            host=str(made.options.get("host") or DEFAULT_HOST),
            port=_whole(made.options.get("port"), DEFAULT_PORT),
            path=os.fsdecode(made.options.get("path") or ""),
            db=_whole(made.options.get("db"), 0),
            tls=made.tls,
            url="",
            options=made.options,
            asynchronous=made.asynchronous,
            connect_seconds=made.options.get("socket_connect_timeout") or answer_seconds,
            answer_seconds=answer_seconds,
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


def _whole(value: str | bytes | float | None, default: int) -> int:
    return default if value is None else int(value)
