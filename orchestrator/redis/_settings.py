"""Where a Redis is and how to log in there: what a URL, a client or sentinels are turned into."""

import os
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from orchestrator._hardening.arguments import MOST_PORT
from orchestrator._hardening.text import one_line
from orchestrator._ports import Probe, Target
from orchestrator._probing.addresses import Place
from orchestrator.redis._expect import Expect
from states._records import record

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379

_TLS_CONNECTS_PER_SECOND = 2000.0
"""One core makes 2,900 handshakes a second with P-256, 1,850 with RSA-2048, 290 with RSA-4096."""

_MOST_PATH_BYTES = 107
"""unix(7): `sun_path` has 108 bytes on Linux, and its last is zero."""


@record
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
            return one_line(f"redis master {self.service_name!r}")
        return Place("redis", self.host, self.port, self.path).where

    @property
    def connects_per_second(self) -> float:
        """How many new connections the server is taken to accept from a whole fleet."""
        return _TLS_CONNECTS_PER_SECOND if self.tls else Probe.connects_per_second

    @property
    def target(self) -> Target:
        """The place in the terms of telemetry."""
        if self.sentinels:
            # Which server is asked changes with every failover; the name is what stays.
            return Target(address=self.service_name, namespace=str(self.db))
        if self.path:
            return Target(address=self.path, namespace=str(self.db))
        return Target(address=self.host, port=self.port, namespace=str(self.db))


def is_port(number: int) -> bool:
    """Whether a server can be reached at this port."""
    return 0 < number <= MOST_PORT


def is_socket_path(path: str) -> bool:
    """Whether the path can be that of a Unix socket; a zero byte begins one without a file."""
    return 0 < len(os.fsencode(path)) <= _MOST_PATH_BYTES and "\0" not in path[1:]
