"""A port that accepts connections."""

from functools import partial

from orchestrator._hardening.arguments import MOST_PORT, require
from orchestrator._ports import Target
from orchestrator._probing.addresses import Place
from orchestrator.checks._exchange_session import ExchangeProbe, ExchangeSession


class TcpSession(ExchangeSession):
    """Connects; once the port accepts, there is nothing more to ask."""

    has_question = False


class TcpProbe(ExchangeProbe[TcpSession]):
    """See `tcp`."""

    def __init__(self, host: str, port: int) -> None:
        require(host, str, "host", "write tcp('db.internal', 5432)")
        require(port, int, "port", "write tcp('db.internal', 5432)")
        if not host or "\0" in host:
            raise ValueError("host is empty or has a null character; give a name or an address")
        if isinstance(port, bool) or not 0 < port <= MOST_PORT:
            raise ValueError(f"port is {port!r}; it must be from 1 to {MOST_PORT}")
        self._host, self._port = host, port
        super().__init__(partial(TcpSession, Place(host=host, port=port)), "tcp-probe")

    @property
    def target(self) -> Target:
        """The port."""
        return Target("tcp", self._host, self._port, operation="connect")


def tcp(host: str, port: int) -> TcpProbe:
    """A probe that connects to a port, and closes again.

    A port that accepts connections says little about whether the service works: use a probe that
    speaks its protocol if there is one.

    Args:
        host: A name or an address.
        port: The port.

    Raises:
        TypeError: When one is of the wrong type.
        ValueError: When one cannot be used.
    """
    return TcpProbe(host, port)
