"""From a host and a port to a connected socket, within a deadline."""

import socket
import time
from collections.abc import Callable
from typing import TypeAlias

Address: TypeAlias = tuple[int, tuple[object, ...] | str]
"""A socket family, and an address in the form that the family has."""


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
