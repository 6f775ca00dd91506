"""`amqp` on a real RabbitMQ: every way to be refused, frozen, stalled, killed.

RabbitMQ takes long to start, so it is started once, and killed by the last test.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from orchestrator import Failure
from orchestrator.checks import AmqpProbe, amqp
from orchestrator.checks._amqp.amqp_url import brokers_of
from tests.certificates import HAVE_OPENSSL
from tests.checks.stalling_proxy import StallingProxy
from tests.rabbitmq_server import PASSWORD, SMALL_VHOST, RabbitProcess, find_rabbitmq

needs_broker = [
    pytest.mark.anyio,
    pytest.mark.skipif(find_rabbitmq() is None, reason="needs RabbitMQ (rabbitmq-server)"),
    pytest.mark.skipif(not HAVE_OPENSSL, reason="needs the openssl program"),
]


@pytest.fixture(scope="module")
def broker(certificates: Path) -> Iterator[RabbitProcess]:
    with RabbitProcess(certificates) as broker:
        yield broker


async def attempt(probe: AmqpProbe, seconds: float = 20.0) -> Failure | None:
    failure = (await probe.attempt(seconds)).failure
    assert PASSWORD not in repr(failure)
    return failure


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[AmqpProbe]:
    probe = amqp(url)
    try:
        yield probe
    finally:
        await probe.aclose()


class TestOnABroker:
    pytestmark = needs_broker

    async def test_every_login_works_or_says_why_not(
        self, broker: RabbitProcess, certificates: Path
    ) -> None:
        secured = (
            broker.url().replace("amqp:", "amqps:").replace(str(broker.port), str(broker.tls_port))
        )
        trusted = f"{secured}?cacertfile={certificates}/ca.pem"
        cases = [
            (broker.url(), ""),
            (broker.url("nowhere"), "UnknownVirtualHost"),
            (broker.url("closed"), "UnknownVirtualHost"),
            (broker.url(password=PASSWORD[1:]), "AuthenticationError"),
            (broker.url(user="nobody"), "AuthenticationError"),
            (f"amqp://127.0.0.1:{broker.port}", "AuthenticationError"),
            (f"{broker.url()}?auth_mechanism=external", "AuthenticationMethod"),
            (f"amqp://127.0.0.1:1;{broker.url()}", ""),
            (broker.url().replace("amqp:", "amqps:"), "TlsMismatch"),
            (secured.replace("amqps:", "amqp:"), "TlsMismatch"),
            (secured, "CertificateError"),
            (trusted, ""),
            (trusted.replace("127.0.0.1", "localhost"), "CertificateError"),
            (f"{secured}?verify=verify_none", ""),
        ]
        for url, wanted in cases:
            async with asking(url) as probe:
                for _ in range(2):
                    failure = await attempt(probe)
                    assert (failure.error_type if failure else "") == wanted, url

    async def test_a_full_broker_is_told_apart_and_one_that_was_let_in_stays(
        self, broker: RabbitProcess
    ) -> None:
        async with (
            asking(broker.url(SMALL_VHOST)) as first,
            asking(broker.url(SMALL_VHOST)) as other,
        ):
            assert await attempt(first) is None
            failure = await attempt(other)
            assert failure is not None
            assert (failure.error_type, failure.congestion) == ("TooManyConnections", True)
            assert await attempt(first) is None

    async def test_frozen_and_stalled_brokers_come_back(self, broker: RabbitProcess) -> None:
        async with asking(broker.url()) as probe:
            assert await attempt(probe) is None
            broker.freeze()
            try:
                failures = [await attempt(probe, 0.1) for _ in range(2)]
            finally:
                broker.thaw()
            assert {getattr(one, "error_type", "") for one in failures} == {"TimeoutError"}
            assert await attempt(probe) is None
        with StallingProxy(broker.port) as proxy:
            url = broker.url().replace(str(broker.port), str(proxy.port))
            async with asking(url) as probe:
                assert await attempt(probe) is None
                proxy.stall()
                for _ in range(5):
                    assert getattr(await attempt(probe, 0.05), "error_type", "") == "TimeoutError"
                proxy.resume()
                assert await attempt(probe) is None
                assert proxy.accepted <= 2


@pytest.mark.skipif(find_rabbitmq() is None, reason="needs RabbitMQ (rabbitmq-server)")
@pytest.mark.skipif(not HAVE_OPENSSL, reason="needs the openssl program")
def test_a_killed_broker_is_noticed_at_once(broker: RabbitProcess) -> None:
    async def watch() -> None:
        async with asking(broker.url()) as probe:
            assert await attempt(probe) is None
            broker.kill()
            with anyio.fail_after(20):
                await probe.changed()
            failure = await attempt(probe)
            assert failure is not None
            assert failure.error_type == "ConnectionRefusedError"

    anyio.run(watch)


@pytest.mark.parametrize(
    ("url", "user", "vhost", "place"),
    [
        ("amqp://", "guest", "/", ("localhost", 5672)),
        ("amqp://h/", "guest", "/", ("h", 5672)),
        ("pyamqp://u:p@h//", "u", "/", ("h", 5672)),
        ("amqps://u:p@h/%2Fa", "u", "/a", ("h", 5671)),
        ("amqp://u%40x:p@[::1]:1/v?heartbeat=5&connection_attempts=3", "u@x", "v", ("::1", 1)),
    ],
)
def test_a_url_is_read_as_the_usual_clients_read_it(
    url: str, user: str, vhost: str, place: tuple[str, int]
) -> None:
    (broker,) = brokers_of(url)
    assert (broker.user, broker.vhost, (broker.host, broker.port)) == (user, vhost, place)
    assert amqp(url).target.address == place[0]


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "http://u:hunter2@h/",
        "amqp:u:hunter2@h",
        "amqp://u:hunter2@h:port/",
        "amqp://u:hunt/er2@h/",
        "amqp://u:hunter2#@h/",
        "amqp://u:p@h:0/",
        "amqp://u:p@h/v?hunter2",
        "amqp://u:p@h/v?verfy=verify_none",
        "amqp://u:p@h/v?cafile=/x",
        "amqps://u:p@h/v?auth_mechanism=gssapi",
        "amqp://u:p@h/" + "v" * 256,
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="AMQP URL") as refused:
        amqp(url)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_what_is_no_url_is_refused_by_its_type() -> None:
    with pytest.raises(TypeError, match="url must be a str, not NoneType"):
        amqp(None)  # type: ignore[arg-type]  # as a user may
    with pytest.raises(TypeError, match="tls must be a SSLContext"):
        amqp("amqps://h", tls=True)  # type: ignore[arg-type]  # the same
