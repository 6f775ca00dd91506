"""Which host names a page answers to.

A page of another site can have its own name resolve to this machine ("DNS rebinding"). The browser
takes the two for one site then, and only the name in the request tells them apart.
"""

import re
import socket
from collections.abc import Collection, Iterable

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|(?:\*\.)?[^\s\[\]:@/\\?#*,]+)(?::([0-9]{1,5}|\*))?")
_SENT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{0,5}))?")
_DEFAULT_PORTS = ("80", "443")


class AllowedHosts:
    """The hosts that a page answers to.

    Args:
        hosts: Names and addresses: `status.example` with any port, `status.example:8443` with this
            one only, `localhost:*` with any, said out loud, `[::1]` and `[::1]:8080` for IPv6,
            `*.example.com` for every name below that one.

    Raises:
        ValueError: When there is none, or one cannot be understood.
    """

    def __init__(self, hosts: Collection[str]) -> None:
        if isinstance(hosts, str):
            raise ValueError(f"allowed_hosts must be a list of hosts: write [{hosts!r}]")
        if not hosts:
            raise ValueError("allowed_hosts is empty, so that no host would do; leave it out")
        self._exact: set[tuple[str, str]] = set()
        self._below: list[tuple[str, str]] = []
        for host in hosts:
            name, port = _understood(host)
            if name.startswith("*."):
                self._below.append((name[1:], port))
            else:
                self._exact.add((name, port))

    def allow(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the request names exactly one host, and it is one of these."""
        sent = [value for name, value in headers if name.lower() == b"host"]
        found = _SENT.fullmatch(sent[0].decode("latin-1").strip()) if len(sent) == 1 else None
        if found is None:
            return False
        name = _normal(found[1])
        for port in ["*", found[2]] if found[2] else ["*", *_DEFAULT_PORTS]:
            if (name, port) in self._exact:
                return True
            if any(name.endswith(end) and port == its for end, its in self._below):
                return True
        return False


def _understood(host: str) -> tuple[str, str]:
    if host.count(":") > 1 and "[" not in host:
        host = f"[{host}]"  # an IPv6 address cannot be mistaken for a name with a port
    found = _HOST.fullmatch(host)
    name = _normal(found[1]) if found else ""
    if found is None or not name or name == "[]":
        raise ValueError(
            f"allowed_hosts has {host!r}; write a name or an address without scheme and path, such"
            " as 'status.example', 'localhost:*', '[::1]:8080' or '*.example.com'"
        )
    return name, (found[2] or "*").lstrip("0") or "0"


def _normal(name: str) -> str:
    """One spelling of a name or an address; `[]` for an IPv6 address that is none."""
    if name.startswith("["):
        try:
            return socket.inet_pton(socket.AF_INET6, name[1:-1]).hex(":", 2)
        except OSError:
            return "[]"
    if not name.isascii():  # only in what is configured: browsers send the encoded name
        try:
            name = name.encode("idna").decode()
        except UnicodeError:
            return ""
    return name.lower().removesuffix(".")
