"""What the probes that speak a protocol themselves have in common: one connection, one deadline.

They use no client library where that would run threads of its own, keep time of its own, or write
to standard error. All of it runs in the thread of an `AbandonableProbe`: what blocks there ends by
the deadline, or when `give_up` shuts the socket down; only a resolver can be left behind.
"""

import contextlib
import socket
import ssl
import threading
import time

from orchestrator._hardening.arguments import wrong_type
from orchestrator._hardening.text import bracketed, one_line
from orchestrator._ports import ProbeResult
from orchestrator._probing.abandonable import AbandonableProbe
from orchestrator._probing.addresses import Address, connect, literal_address, look_up
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator._probing.socket_failures import failure_of_socket
from states import Failure, FailureKind, Policy

_MOST_BYTES = 256 * 1024
"""How much of what a server sends is read in one attempt."""

TlsChoice = ssl.SSLContext | bool
"""How to check the server's certificate; `True` as the system does, `False` for no TLS."""

_LOOK_UP = "looking up the name"

_contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
_making = threading.Lock()


def shared_context(*protocols: str) -> ssl.SSLContext:
    """The TLS settings of the system, read once: it takes milliseconds, and a megabyte each.

    Args:
        protocols: What is spoken over TLS, as ALPN names it.
    """
    with _making:
        if protocols not in _contexts:
            context = ssl.create_default_context()
            if protocols:
                context.set_alpn_protocols(list(protocols))
            _contexts[protocols] = context
        return _contexts[protocols]


def require_tls(tls: TlsChoice) -> TlsChoice:
    """The choice of TLS.

    Raises:
        TypeError: When it is none.
    """
    given: object = tls
    if not isinstance(given, bool | ssl.SSLContext):
        raise wrong_type(given, "tls", "a bool or an ssl.SSLContext", "write tls=True")
    return tls


class SocketProbe(AbandonableProbe):
    """Speaks a protocol on a connection of its own. Subclass it and write `talk`.

    Attributes:
        protocol: What is spoken, in words.
        doing: What the attempt is at, in words.
        where: Who is asked, in words.
        plain: How to ask without TLS, in words.
        secure: How to ask with TLS, in words.
    """

    protocol = "the protocol"
    plain = "write tls=False"
    secure = "write tls=True"

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where: str = where
        self.doing: str = "not begun"
        self._seconds = 0.0
        self._patience_seconds = Policy().answer_patience_seconds
        self._connecting = self._is_patient = False
        self._socket: socket.socket | None = None

    def talk(self, deadline: float) -> None:
        """Ask once; return if the answer is right.

        Raises:
            ProtocolFault: When it is not.
            OSError: When the connection fails.
        """
        raise NotImplementedError

    def ask(self, deadline: float) -> Failure | None:
        """Ask once."""
        try:
            self.talk(deadline)
        except ProtocolFault as fault:
            return fault.failure
        except TimeoutError:
            return self.timed_out(self._seconds)
        except OSError as error:
            return self.failure_of(error)
        finally:
            self.close_socket()
        return None

    def prepare(self, policy: Policy) -> None:
        """Take over `answer_patience_seconds`."""
        self._patience_seconds = policy.answer_patience_seconds

    def give_up(self) -> None:
        """Cut the connection, in whatever it is read, unless a handshake may go on."""
        if not self._is_patient:
            self._cut()

    async def aclose(self) -> None:
        """Cut the connection, also in a handshake."""
        self._cut()
        await super().aclose()

    def _cut(self) -> None:
        sock = self._socket
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Ask, or wait for what an earlier attempt has asked."""
        self._seconds = timeout_seconds
        return await super().attempt(timeout_seconds)

    def timed_out(self, timeout_seconds: float) -> Failure:
        """Say what the attempt was at."""
        reason = f"{self.where} gave no answer within {timeout_seconds:g} s ({self.doing})"
        # Whoever does not even answer is busy with those who came before, most of the time.
        busy = self.doing != _LOOK_UP
        return Failure(FailureKind.TRANSIENT, "TimeoutError", reason, congestion=busy)

    def failure_of(self, error: OSError) -> Failure:
        """What an exception of the socket means."""
        return failure_of_socket(
            error,
            self.where,
            doing=self.doing,
            connecting=self._connecting,
            plain=self.plain,
        )

    def wrong_server(self) -> ProtocolFault:
        """What answers there is something else, which waiting does not change."""
        reason = f"{self.where} answers, but does not speak {self.protocol}"
        return ProtocolFault("InvalidResponse", reason, permanent=True)

    def wrong_answer(self) -> ProtocolFault:
        """It speaks the protocol, and answered what is never due."""
        reason = f"{self.where} answered, but not as {self.protocol} has it: is it a proxy?"
        return ProtocolFault("WrongAnswer", reason, permanent=True)

    def wants_tls(self) -> ProtocolFault:
        """It speaks TLS, and was asked without."""
        reason = f"{self.where} wants TLS: {self.secure}"
        return ProtocolFault("TlsMismatch", reason, permanent=True)

    # -- the connection ----------------------------------------------------------------------------

    def open(
        self, host: str, port: int, deadline: float, tls: ssl.SSLContext | None = None
    ) -> "Link":
        """Connect, and agree on TLS.

        Args:
            host: A name or an address; the path of a Unix socket with port 0.
            port: The port.
            deadline: By `time.monotonic`, shared among the addresses of the name.
            tls: How to check the certificate; `None` for no TLS.
        """
        self.doing, self._connecting = _LOOK_UP, True
        unix: list[Address] = [] if port else [(socket.AF_UNIX, host)]
        addresses = unix or literal_address(host, port) or look_up(host, port)
        self.doing = "connecting"
        sock = connect(addresses, deadline, self.adopt)
        return self.secured(sock, host, deadline, tls, self._patience_seconds)

    def secured(
        self,
        sock: socket.socket,
        host: str,
        deadline: float,
        tls: ssl.SSLContext | None,
        patience_seconds: float = 0.0,
    ) -> "Link":
        """A connection that was accepted, with TLS on it.

        The handshake may outlast the attempt by as much as is given. To give it up would have a
        busy server do its work again, and with many instances it would never come to an end. What
        is asked then has the time of an attempt of its own.
        """
        self._connecting = False
        if tls is not None:
            self.doing = "agreeing on TLS"
            sock = tls.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
            self._socket = sock
            sock.settimeout(left_until(max(deadline, time.monotonic() + patience_seconds)))
            self._is_patient = patience_seconds > 0
            try:
                sock.do_handshake()
            finally:
                self._is_patient = False
            if (now := time.monotonic()) > deadline:
                deadline = now + self._seconds
        sock.settimeout(left_until(deadline))
        self.doing = "waiting for the answer"
        return Link(sock, deadline)

    def adopt(self, sock: socket.socket) -> None:
        """Remember what `give_up` has to cut, and let go of the connection before."""
        self.close_socket()
        self._socket = sock

    def close_socket(self) -> None:
        """Let go of the connection."""
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()


class Link:
    """A connection, read and written until the deadline.

    Args:
        sock: The connection.
        deadline: By `time.monotonic`.
    """

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self._kept = b""
        self._bytes_left = _MOST_BYTES

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.sock.settimeout(left_until(self.deadline))
        self.sock.sendall(data)

    def receive(self) -> bytes:
        """What comes next.

        Raises:
            ConnectionError: When the other side has closed, or never ends.
        """
        self.sock.settimeout(left_until(self.deadline))
        data = self.sock.recv(65536)
        self._bytes_left -= len(data)
        if not data or self._bytes_left < 0:
            raise ConnectionResetError
        return data

    def exactly(self, size: int) -> bytes:
        """So many bytes."""
        while len(self._kept) < size:
            self._kept += self.receive()
        data, self._kept = self._kept[:size], self._kept[size:]
        return data


def left_until(deadline: float) -> float:
    """How many seconds are left.

    Raises:
        TimeoutError: When none are.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def host_and_port(host: str, port: int) -> str:
    """A place in words; a Unix socket has no port."""
    return one_line(f"{bracketed(host)}:{port}" if port else host)
