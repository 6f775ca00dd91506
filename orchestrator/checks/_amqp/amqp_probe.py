"""`amqp`, and the probe that it makes."""

import ssl
from functools import partial

from orchestrator._hardening.arguments import require
from orchestrator._ports import Target
from orchestrator._probing.blocking_probe import BlockingProbe
from orchestrator.checks._amqp.amqp_session import AmqpSession
from orchestrator.checks._amqp.amqp_url import brokers_of


class AmqpProbe(BlockingProbe[AmqpSession]):
    """See `amqp`."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None) -> None:
        self._brokers = brokers_of(url)
        if tls is not None:
            require(tls, ssl.SSLContext, "tls", "give an ssl.SSLContext, or leave it out")
        super().__init__(partial(AmqpSession, self._brokers, tls), "amqp-probe")

    def __repr__(self) -> str:
        return f"<AmqpProbe of {self._brokers[0].where}>"

    @property
    def target(self) -> Target:
        """The first broker."""
        first = self._brokers[0]
        return Target("rabbitmq", first.host, first.port, operation="channel.open")


def amqp(url: str, *, tls: ssl.SSLContext | None = None) -> AmqpProbe:
    """A probe that logs in to RabbitMQ, or to another broker that speaks AMQP 0-9-1.

    Each attempt opens a channel and closes it again, on one connection of its own that stays open,
    without heartbeats. It needs no package: the handshake is small, and the clients' own limits are
    for each read, so that a server that sends one byte at a time outlasts them.

    Example::

        Check("broker", amqp("amqp://user:password@rabbit.internal/orders"))

    Args:
        url: `amqp://[user:password@]host[:port][/vhost]`, `amqps://` for TLS; several with `;`
            between them are tried in order. Options of pika, aio-pika, Celery and RabbitMQ's own
            clients: `cafile` or `cacertfile`, `certfile`, `keyfile`, `verify=verify_none`,
            `auth_mechanism=external`; those for their limits and pace are not used.
        tls: The TLS context of the application, instead of the files in the URL.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the URL cannot be used. The text names the option, and holds no part of the
            URL.
    """
    return AmqpProbe(url, tls=tls)
