"""`kafka`, and the probe that it makes."""

from collections.abc import Iterable
from functools import partial

from orchestrator._hardening.arguments import MOST_PORT, require, require_items, wrong_type
from orchestrator._hardening.text import mistake_in
from orchestrator._ports import Target
from orchestrator._probing.addresses import Place
from orchestrator.checks._exchange_session import ExchangeProbe, TlsChoice, require_tls
from orchestrator.checks._kafka.kafka_session import PLACE, SCRAM, KafkaSession, Sasl

_DEFAULT_PORT = 9092
_PARTS_OF_SASL = 3


class KafkaProbe(ExchangeProbe[KafkaSession]):
    """See `kafka`."""

    def __init__(
        self, bootstrap: str | Iterable[str], *, tls: TlsChoice, sasl: Sasl | None
    ) -> None:
        places = _places(bootstrap)
        self._first = places[0]
        make_session = partial(KafkaSession, places, require_tls(tls), _checked(sasl))
        super().__init__(make_session, "kafka-probe")

    @property
    def target(self) -> Target:
        """The first bootstrap server."""
        return Target("kafka", self._first.host, self._first.port, operation="metadata")


def kafka(
    bootstrap: str | Iterable[str], *, tls: TlsChoice = False, sasl: Sasl | None = None
) -> KafkaProbe:
    """A probe that holds while a Kafka cluster can be reached.

    Example::

        Check("kafka", kafka("kafka-1:9092,kafka-2:9092", sasl=("SCRAM-SHA-512", "app", password)))

    One of the bootstrap servers has to say where the brokers are, and at least one broker has to
    answer there. Topics and partitions are not checked: use `call` with your own client for that.

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


def _places(bootstrap: str | Iterable[str]) -> list[Place]:
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
        found = PLACE.fullmatch(text)
        port = int(found[2] or _DEFAULT_PORT) if found is not None else 0
        if found is None or not 0 < port <= MOST_PORT:
            invalid = "has an invalid server address; write HOST:PORT"
            raise ValueError(f"bootstrap {mistake_in(text, invalid)}")
        places.append(Place(host=found[1].strip("[]"), port=port))
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
    if mechanism not in (*SCRAM, "PLAIN"):
        raise ValueError("sasl must begin with a known mechanism: PLAIN, " + ", ".join(SCRAM))
    if not all(who) or "\0" in "".join(who):
        raise ValueError("sasl has a name or a password that is empty, or has a null character")
    return mechanism, who[0], who[1]
