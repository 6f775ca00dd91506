"""A port that accepts connections."""

import errno
import socket
import time

from orchestrator._hardening.arguments import MOST_PORT, require
from orchestrator._ports import Target
from orchestrator._probing.abandonable import AbandonableProbe, failed
from states import Failure


class TcpProbe(AbandonableProbe):
    """See `tcp`."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        require(host, str, "host", "write tcp('db.internal', 5432)")
        require(port, int, "port", "write tcp('db.internal', 5432)")
        if not host or "\0" in host:
            raise ValueError("host is empty or has a null character; give a name or an address")
        if isinstance(port, bool) or not 0 < port <= MOST_PORT:
            raise ValueError(f"port is {port!r}; it must be from 1 to {MOST_PORT}")
        self._host, self._port = host, port

    @property
    def target(self) -> Target:
        """The port."""
        return Target("tcp", self._host, self._port, operation="connect")

    def ask(self, deadline: float) -> Failure | None:
        """Connect, and close again."""
        where = f"{self._host}:{self._port}"
        try:
            connect(self._host, self._port, deadline).close()
        except socket.gaierror as error:
            again = error.errno == socket.EAI_AGAIN
            what = "the name could not be looked up now" if again else "there is no such name"
            return failed("gaierror", f"{what}: {self._host}")
        except ConnectionRefusedError:
            return failed("ConnectionRefusedError", f"{where} refused the connection")
        except TimeoutError:
            return failed("TimeoutError", f"{where} did not accept the connection in time")
        except (OSError, UnicodeError) as error:
            known = errno.errorcode.get(getattr(error, "errno", 0) or 0, type(error).__name__)
            return failed(type(error).__name__, f"{where} could not be reached: {known}")
        return None


def tcp(host: str, port: int) -> TcpProbe:
    """A probe that connects to a port, and closes again.

    That something accepts connections says little of whether it works: use a probe that speaks the
    protocol where there is one.

    Args:
        host: A name or an address.
        port: The port.

    Raises:
        TypeError: When one is of the wrong type.
        ValueError: When one cannot be.
    """
    return TcpProbe(host, port)


def connect(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address of a name that accepts.

    Each address gets its share of what is left, so that a dead first one does not use up all of it.

    Args:
        host: A name or an address.
        port: The port.
        deadline: By `time.monotonic`.

    Raises:
        OSError: That of the last address.
        TimeoutError: When none accepted in time.
    """
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    last: OSError = TimeoutError()
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(left / (len(addresses) - number))
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
        else:
            return sock
    raise last
