"""From a host and a port to a connected socket, within a deadline."""

import re
import socket
import time
from collections.abc import Callable
from typing import TypeAlias

from orchestrator._hardening.text import bracketed, one_line
from states._records import record

Address: TypeAlias = tuple[int, tuple[object, ...] | str]
"""A socket family, and an address in that family's form."""

_NO_HOST = re.compile(r"[\s@/?#\\]")
"""Characters that no host has. In a URL, one of them is most likely a part of a password."""

_MOST_HOST_CHARACTERS = 254
"""RFC 1035: 253, and the dot at the end."""

_MOST_PLACE_CHARACTERS = 300
"""A host has 253 at most, and the path of a Unix socket 107."""


@record
class Place:
    """One server to try.

    Attributes:
        kind: What it is, for a person, such as `PostgreSQL`; empty where the address says enough.
        host: Its name or address; what a certificate must be for.
        port: Its port.
        path: The path of a Unix socket, instead of host and port.
        address: Its address, if the name need not be looked up.
    """

    kind: str = ""
    host: str = ""
    port: int = 0
    path: str = ""
    address: str = ""

    @property
    def where(self) -> str:
        """The place in words, as one printable line; the kind alone where it is not known yet."""
        if not self.path and not self.host:
            return self.kind
        words = f"{self.kind} at " if self.kind else ""
        words = one_line(f"{words}{self.path or bracketed(self.host)}", _MOST_PLACE_CHARACTERS)
        return words if self.path else f"{words}:{self.port}"


def is_host(text: str) -> bool:
    """Whether it can be the name or the address of a host."""
    return (
        0 < len(text) <= _MOST_HOST_CHARACTERS and not _NO_HOST.search(text) and text.isprintable()
    )


def literal_address(host: str, port: int) -> list[Address]:
    """The address that `host` already is; empty for a name, which has to be looked up."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    return []


def look_up(host: str, port: int) -> list[Address]:
    """All addresses of a name. May block for as long as the resolver likes."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        # Python refuses a name with an empty or an overlong part before it asks a resolver.
        raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
    return [(family, address) for family, _type, _protocol, _name, address in found]


def connect(
    addresses: list[Address], deadline: float, adopt: Callable[[socket.socket], None]
) -> socket.socket:
    """A socket connected to the first address that accepts, or the last one's error.

    Args:
        addresses: Where to try, in order. Each gets an equal share of the time that is left, so
            that one that swallows everything cannot hide the next.
        deadline: When to give up, in monotonic seconds.
        adopt: Called with each socket before it may block, so that it can be shut down from
            outside.
    """
    for position, (family, address) in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(left / (len(addresses) - position))
            adopt(sock)
            sock.connect(address)
            if family != getattr(socket, "AF_UNIX", None):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            sock.close()
            if position == len(addresses) - 1:
                raise
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise TimeoutError
