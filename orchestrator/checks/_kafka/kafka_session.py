"""A Kafka cluster with at least one broker that can be reached at the address it advertises.

It sends the few requests itself (`kafka_wire`). Client libraries reconnect again and again in
threads of their own, where no deadline reaches them, and librdkafka writes to standard error.

A bootstrap server that answers proves nothing: the addresses that the brokers advertise, which
clients go to, may lead nowhere. So it asks a bootstrap server for the brokers, and then one of
these. Both times it connects to all of them at once, and talks to them in the order in which they
accept, so a dead one takes no time from the others.
"""

import contextlib
import errno
import os
import re
import selectors
import socket
import time
from collections.abc import Generator
from contextlib import closing

from orchestrator._hardening.arguments import MOST_PORT
from orchestrator._hardening.text import bracketed
from orchestrator._probing.addresses import Place
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator._probing.stream_session import StreamPhase
from orchestrator.checks._exchange_session import ExchangeSession, TlsChoice
from orchestrator.checks._kafka.kafka_wire import KafkaConversation, KafkaError
from orchestrator.checks._scram import Scram, ScramError
from states import Failure

Sasl = tuple[str, str, str]
"""The mechanism, such as `SCRAM-SHA-512`, the name and the password."""

PLACE = re.compile(r"(\[[0-9A-Za-z:.%_-]+\]|[^\s:/\[\]@,\"'${}]+)(?::([0-9]{1,5}))?")
_MOST_PLACES = 16
"""How many are connected to at the same time."""

SCRAM = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
"""The mechanisms with a challenge, and the hash of each."""

_UNSUPPORTED_MECHANISM, _ILLEGAL_STATE, _AUTHENTICATION_FAILED = 33, 34, 58


class KafkaSession(ExchangeSession):
    """Asks a bootstrap server for the brokers, and then one of them.

    Args:
        bootstrap: The bootstrap servers, in order.
        tls: How to check certificates.
        sasl: How to log in to a bootstrap server.
    """

    protocol = "Kafka"

    def __init__(self, bootstrap: list[Place], tls: TlsChoice, sasl: Sasl | None) -> None:
        super().__init__(bootstrap[0], tls)
        self._bootstrap = bootstrap
        self._sasl = sasl
        self._advertised = 0
        self._is_greeted = False

    def exchange(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> None:
        """Ask once, on new connections."""
        self._advertised = 0
        answered, brokers = self._ask_for_brokers(deadline)
        if not brokers:
            raise ProtocolFault("NoBroker", "{where} knows of no broker yet")
        if answered in brokers:
            return
        self._advertised = len(brokers)
        with contextlib.suppress(OSError):
            possible = [place for place in brokers if _is_possible(place)]
            with closing(self._accepting(possible, deadline)) as accepting:
                for place, sock, until in accepting:
                    # Without a login: an address that a server sends us to must not learn our
                    # credentials.
                    with contextlib.suppress(OSError, ProtocolFault):
                        self._greet(place, sock, until)
                        return
        raise self._none_reachable()

    def steps(self) -> None:
        """It talks to several servers, one after the other."""

    def timed_out(self, timeout_seconds: float) -> Failure:
        """What an attempt of `timeout_seconds` still waited for."""
        if self._advertised:
            return self.failure_of(self._none_reachable(), timeout_seconds)
        return super().timed_out(timeout_seconds)

    def _none_reachable(self) -> ProtocolFault:
        reason = (
            "no broker reachable: {where} answers, but no broker does at the addresses that"
            f" they advertise ({self._advertised}); see advertised.listeners"
        )
        return ProtocolFault("NoBrokerReachable", reason)

    def _ask_for_brokers(self, deadline: float) -> tuple[Place, list[Place]]:
        """The bootstrap server that answers, and the brokers that it knows of."""
        failed: ProtocolFault | OSError | None = None
        self._place = self._bootstrap[0]
        with closing(self._accepting(self._bootstrap, deadline)) as accepting:
            for place, sock, until in accepting:
                self._place, self._is_greeted = place, False
                try:
                    conversation, version = self._greet(place, sock, until)
                    self._is_greeted = True
                    if self._sasl is not None:
                        self.phase = StreamPhase.LOGIN
                        self._log_in(conversation, *self._sasl)
                    self.phase = StreamPhase.ASK
                    found = conversation.brokers(version)
                    return place, [Place(host=host, port=port) for host, port in found]
                except ConnectionError:
                    failed = self._closed()
                except ProtocolFault as fault:
                    if fault.failure.error_type == "AuthenticationError":
                        raise  # the others have the same users, and may count failed logins
                    failed = fault
                except OSError as error:
                    failed = error
        assert failed is not None
        raise failed

    def _closed(self) -> ProtocolFault | ConnectionError:
        if self._sasl is not None or not self._is_greeted:
            return ConnectionResetError()
        reason = "{where} closed the connection when asked for the brokers: does it require SASL?"
        return ProtocolFault("ConnectionClosed", reason)

    def _greet(
        self, place: Place, sock: socket.socket, until: float
    ) -> tuple[KafkaConversation, int]:
        """Agree on TLS and a version."""
        self.close()
        self.interruption.adopt(sock)
        stream = self.use(sock, until)
        self.secure(stream, place)
        self.phase = StreamPhase.ASK
        conversation = KafkaConversation(stream, self.wrong_server, self.wants_tls)
        try:
            version = conversation.metadata_version()
        except KafkaError as error:
            raise ProtocolFault("KafkaError", f"{{where}} gave error {error.code}") from None
        if version is None:
            reason = "{where} speaks no version of Kafka that is known here"
            raise ProtocolFault("WrongVersion", reason, permanent=True)
        return conversation, version

    def _log_in(self, conversation: KafkaConversation, mechanism: str, *who: str) -> None:
        what = ""
        try:
            conversation.choose_mechanism(mechanism)
            if mechanism == "PLAIN":
                conversation.authenticate("\0".join(("", *who)).encode())
                return
            scram = Scram(SCRAM[mechanism], *who)
            answer = conversation.authenticate(scram.first())
            scram.verify(conversation.authenticate(scram.final(answer)))
        except ScramError:
            what = "does not show that it knows the password itself"
        except KafkaError as error:
            known = {
                _UNSUPPORTED_MECHANISM: f"has not enabled {mechanism}",
                _ILLEGAL_STATE: "wants no SASL on this port",
                _AUTHENTICATION_FAILED: "does not accept the name or the password",
            }
            if error.code not in known:
                raise ProtocolFault("KafkaError", f"{{where}} gave error {error.code}") from None
            what = known[error.code]
        if what:
            raise ProtocolFault("AuthenticationError", f"{{where}} {what}", permanent=True)

    def _accepting(
        self, places: list[Place], deadline: float
    ) -> Generator[tuple[Place, socket.socket, float], None, None]:
        """Yield each connection that is accepted, and until when it may answer.

        Raises:
            OSError: When none has accepted: why the last did not.
        """
        last, some = None, False
        with selectors.DefaultSelector() as selector:
            try:
                last = self._connect_to_all(places[:_MOST_PLACES], selector)
                while selector.get_map():
                    self.phase = StreamPhase.CONNECT
                    if not (ready := selector.select(max(0.0, deadline - time.monotonic()))):
                        raise TimeoutError
                    for key, _ in ready:
                        sock = _socket_of(key)
                        selector.unregister(sock)
                        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                            sock.close()
                            last = OSError(code, os.strerror(code))
                            continue
                        some, now = True, time.monotonic()
                        share = (deadline - now) / (1 + len(selector.get_map()))
                        yield key.data, sock, now + share
            finally:
                for key in list(selector.get_map().values()):
                    _socket_of(key).close()
        if not some:
            raise last or TimeoutError()

    def _connect_to_all(
        self, places: list[Place], selector: selectors.BaseSelector
    ) -> OSError | None:
        """Begin to connect to every address; return why the last of those failed that did."""
        last: OSError | None = None
        for place in places:
            try:
                addresses = self.addresses_of(place)
            except OSError as error:
                last = error
                continue
            for family, address in addresses[:_MOST_PLACES]:
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.setblocking(False)
                code = sock.connect_ex(address)
                if code in (0, errno.EINPROGRESS, errno.EWOULDBLOCK):
                    selector.register(sock, selectors.EVENT_WRITE, place)
                else:
                    sock.close()
                    last = OSError(code, os.strerror(code))
        return last


def _is_possible(place: Place) -> bool:
    """Whether a broker may be there: it advertises whatever was configured."""
    is_name = PLACE.fullmatch(bracketed(place.host)) is not None
    return is_name and 0 < place.port <= MOST_PORT


def _socket_of(key: selectors.SelectorKey) -> socket.socket:
    sock = key.fileobj
    assert isinstance(sock, socket.socket)
    return sock
