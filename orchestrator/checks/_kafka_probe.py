"""A Kafka cluster of which at least one broker can be reached where it says that it is.

It speaks the few requests itself (`_kafka_wire`). The client libraries connect again and again in
threads of their own that no deadline reaches, and librdkafka writes to standard error meanwhile.

A bootstrap server that answers proves nothing: the addresses that the brokers advertise, which is
where clients go, may swallow everything. So it asks a bootstrap server for the brokers, and then
one of these. Each time it connects to all of them at once, and talks to one after the other in the
order in which they accept: one that is dead takes no time from the others.
"""

import contextlib
import errno
import os
import re
import selectors
import socket
import ssl
import time
from collections.abc import Generator, Iterable
from contextlib import closing

from orchestrator._hardening.arguments import MOST_PORT, require, require_items, wrong_type
from orchestrator._hardening.text import bracketed, mistake_in
from orchestrator._ports import Target
from orchestrator._probing.addresses import literal_address, look_up
from orchestrator._probing.protocol_fault import ProtocolFault
from orchestrator.checks._kafka_wire import KafkaConversation, KafkaError
from orchestrator.checks._scram import Scram, ScramError
from orchestrator.checks._socket_probe import (
    SocketProbe,
    TlsChoice,
    host_and_port,
    left_until,
    require_tls,
    shared_context,
)
from states import Failure

BrokerAddress = tuple[str, int]
Sasl = tuple[str, str, str]
"""The mechanism, such as `SCRAM-SHA-512`, the name and the password."""

_PLACE = re.compile(r"(\[[0-9A-Za-z:.%_-]+\]|[^\s:/\[\]@,\"'${}]+)(?::([0-9]{1,5}))?")
_DEFAULT_PORT = 9092
_MOST_PLACES = 16
"""How many are connected to at the same time."""

_SCRAM = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
_UNSUPPORTED_MECHANISM, _ILLEGAL_STATE, _AUTHENTICATION_FAILED = 33, 34, 58
_PARTS_OF_SASL = 3


class KafkaProbe(SocketProbe):
    """See `kafka`."""

    where: str
    doing: str

    protocol = "Kafka"

    def __init__(
        self, bootstrap: str | Iterable[str], *, tls: TlsChoice, sasl: Sasl | None
    ) -> None:
        self._bootstrap = _places(bootstrap)
        super().__init__(host_and_port(*self._bootstrap[0]))
        self._tls = require_tls(tls)
        self._sasl = _checked(sasl)
        self._advertised = 0

    @property
    def target(self) -> Target:
        """The first bootstrap server."""
        host, port = self._bootstrap[0]
        return Target("kafka", host, port, operation="metadata")

    def talk(self, deadline: float) -> None:
        """Ask a bootstrap server for the brokers, and then one of them."""
        self._advertised = 0
        answered, brokers = self._ask_for_brokers(deadline)
        if not brokers:
            raise ProtocolFault("NoBroker", f"{self.where} knows of no broker yet")
        if answered in brokers:
            return
        self._advertised = len(brokers)
        with contextlib.suppress(OSError):
            possible = [place for place in brokers if _is_possible(*place)]
            with closing(self._accepting(possible, deadline)) as accepting:
                for place, sock, until in accepting:
                    # Without a login: who we are is nothing for whatever address we are sent to.
                    with contextlib.suppress(OSError, ProtocolFault):
                        self._begin(place, sock, until)
                        return
        raise self._none_reachable()

    def timed_out(self, timeout_seconds: float) -> Failure:
        """Say what the attempt was at."""
        if self._advertised:
            return self._none_reachable().failure
        return super().timed_out(timeout_seconds)

    def _none_reachable(self) -> ProtocolFault:
        reason = (
            f"no broker reachable: {self.where} answers, but at none of the addresses that the"
            f" brokers advertise ({self._advertised}) does one answer; see advertised.listeners"
        )
        return ProtocolFault("NoBrokerReachable", reason)

    def _ask_for_brokers(self, deadline: float) -> tuple[BrokerAddress, list[BrokerAddress]]:
        """The bootstrap server that answers, and the brokers that it knows of."""
        failed: ProtocolFault | OSError | None = None
        self.where = host_and_port(*self._bootstrap[0])
        with closing(self._accepting(self._bootstrap, deadline)) as accepting:
            for place, sock, until in accepting:
                self.where = host_and_port(*place)
                try:
                    conversation, version = self._begin(place, sock, until)
                    if self._sasl is not None:
                        self.doing = "logging in"
                        self._log_in(conversation, *self._sasl)
                    self.doing = "asking for the brokers"
                    return place, conversation.brokers(version)
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
        if self._sasl is not None or self.doing != "asking for the brokers":
            return ConnectionResetError()
        reason = (
            f"{self.where} closed the connection when asked for the brokers: does it require SASL?"
        )
        return ProtocolFault("ConnectionClosed", reason)

    def _begin(
        self, place: BrokerAddress, sock: socket.socket, until: float
    ) -> tuple[KafkaConversation, int]:
        """Agree on TLS and a version."""
        self.adopt(sock)
        context = self._tls if isinstance(self._tls, ssl.SSLContext) else None
        if self._tls is True:
            context = shared_context()
        link = self.secured(sock, place[0], until, context)
        conversation = KafkaConversation(link, self.wrong_server, self.wants_tls)
        try:
            version = conversation.metadata_version()
        except KafkaError as error:
            raise ProtocolFault("KafkaError", f"{self.where} gave error {error.code}") from None
        if version is None:
            reason = f"{self.where} speaks no version of Kafka that is known here"
            raise ProtocolFault("WrongVersion", reason, permanent=True)
        return conversation, version

    def _log_in(self, conversation: KafkaConversation, mechanism: str, *who: str) -> None:
        what = ""
        try:
            conversation.choose_mechanism(mechanism)
            if mechanism == "PLAIN":
                conversation.authenticate("\0".join(("", *who)).encode())
                return
            scram = Scram(_SCRAM[mechanism], *who)
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
                raise ProtocolFault("KafkaError", f"{self.where} gave error {error.code}") from None
            what = known[error.code]
        if what:
            raise ProtocolFault("AuthenticationError", f"{self.where} {what}", permanent=True)

    def _accepting(
        self, places: list[BrokerAddress], deadline: float
    ) -> Generator[tuple[BrokerAddress, socket.socket, float], None, None]:
        """Those that accept a connection, as they do so, and until when each may answer.

        Raises:
            OSError: When none has accepted: why the last did not.
        """
        last, some = None, False
        with selectors.DefaultSelector() as selector:
            try:
                last = self._connect_to_all(places[:_MOST_PLACES], selector)
                while selector.get_map():
                    self.doing, self._connecting = "connecting", True
                    for key, _ in selector.select(left_until(deadline)):
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
        self, places: list[BrokerAddress], selector: selectors.BaseSelector
    ) -> OSError | None:
        """Begin to connect to every address; return why the last of those failed that did."""
        last: OSError | None = None
        for place in places:
            self.doing, self._connecting = "looking up the name", True
            try:
                addresses = literal_address(*place) or look_up(*place)
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


def _is_possible(host: str, port: int) -> bool:
    """Whether a broker may be there: what it advertises is whatever somebody has configured."""
    return 0 < port <= MOST_PORT and _PLACE.fullmatch(bracketed(host)) is not None


def _socket_of(key: selectors.SelectorKey) -> socket.socket:
    sock = key.fileobj
    assert isinstance(sock, socket.socket)
    return sock


def kafka(
    bootstrap: str | Iterable[str], *, tls: TlsChoice = False, sasl: Sasl | None = None
) -> KafkaProbe:
    """A probe that holds while a Kafka cluster can be reached.

    Example::

        Check("kafka", kafka("kafka-1:9092,kafka-2:9092", sasl=("SCRAM-SHA-512", "app", password)))

    One of the bootstrap servers has to say where the brokers are, and at least one broker has to
    answer there. Topics and partitions are not looked at: use `call` with your own client for that.

    Args:
        bootstrap: `host:port`, several separated by commas or as a list; the port is 9092 if not
            given.
        tls: `True` to check certificates as the system does, or a context of your own.
        sasl: The mechanism (`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`), the name and the
            password; `None` to ask without. `PLAIN` without TLS sends the password as it is.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When one cannot be used. The text never holds it.
    """
    return KafkaProbe(bootstrap, tls=tls, sasl=sasl)


def _places(bootstrap: str | Iterable[str]) -> list[BrokerAddress]:
    write = "write kafka('kafka-1:9092,kafka-2:9092')"
    given: object = bootstrap
    if isinstance(given, str):
        parts: list[object] = [part.strip() for part in given.split(",") if part.strip()]
    else:
        wanted = "text or a list of texts"
        parts = list(require_items(given, "bootstrap", wanted, write))
    places = []
    for part in parts:
        text = require(part, str, "a bootstrap server", write)
        found = _PLACE.fullmatch(text)
        port = int(found[2] or _DEFAULT_PORT) if found is not None else 0
        if found is None or not 0 < port <= MOST_PORT:
            invalid = "has an invalid server address; write HOST:PORT"
            raise ValueError(f"bootstrap {mistake_in(text, invalid)}")
        places.append((found[1].strip("[]"), port))
    if not places:
        raise ValueError(f"bootstrap {mistake_in('', '')}")
    return places


def _checked(sasl: Sasl | None) -> Sasl | None:
    if sasl is None:
        return None
    write = "write sasl=('SCRAM-SHA-512', 'name', 'password')"
    given: object = sasl
    if not isinstance(given, tuple | list) or len(given) != _PARTS_OF_SASL:
        raise wrong_type(given, "sasl", "mechanism, name and password", write)
    mechanism, *who = (require(part, str, "a part of sasl", write) for part in given)
    if mechanism not in (*_SCRAM, "PLAIN"):
        raise ValueError("sasl must begin with a known mechanism: PLAIN, " + ", ".join(_SCRAM))
    if not all(who) or "\0" in "".join(who):
        raise ValueError("sasl has a name or a password that is empty, or has a null character")
    return mechanism, who[0], who[1]
