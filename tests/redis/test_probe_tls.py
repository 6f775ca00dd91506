"""RedisProbe over TLS, with a real Redis and certificates made on the spot."""

import gc
import socket
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from orchestrator.redis import RedisProbe
from states import FailureKind
from tests.certificates import HAVE_OPENSSL, make_certificates
from tests.redis_server import NO_TLS, RedisServer, find_redis_server, free_port, has_tls

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not HAVE_OPENSSL, reason="needs openssl for certificates"),
]


class Secured:
    """A Redis that speaks TLS on `port`, and the certificates around it."""

    def __init__(self, directory: Path, *, client_certificate: bool) -> None:
        self.directory = directory
        self.port = free_port()
        self.server = RedisServer(
            None,
            *("--tls-port", str(self.port)),
            *("--tls-cert-file", str(directory / "server.pem")),
            *("--tls-key-file", str(directory / "server.key")),
            *("--tls-ca-cert-file", str(directory / "ca.pem")),
            *("--tls-auth-clients", "yes" if client_certificate else "no"),
        )

    def url(self, host: str = "127.0.0.1", **options: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"rediss://{host}:{self.port}/0?{query}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not has_tls(find_redis_server()):
        pytest.skip(NO_TLS)
    directory = tmp_path_factory.mktemp("tls")
    make_certificates(directory)
    return directory


@pytest.fixture(scope="module", params=[False, True], ids=["", "client-certificate"])
def secured(certificates: Path, request: pytest.FixtureRequest) -> Iterator[Secured]:
    made = Secured(certificates, client_certificate=bool(request.param))
    with made.server:
        yield made


async def ask(url: str) -> tuple[str, bool] | None:
    probe = RedisProbe(url)
    failure = (await probe.attempt(2)).failure
    await probe.aclose()
    if failure is None:
        return None
    return (failure.error_type, failure.kind is FailureKind.PERMANENT)


async def test_tls(secured: Secured) -> None:
    files = secured.directory
    probe = RedisProbe(
        secured.url(
            ssl_ca_certs=files / "ca.pem",
            ssl_certfile=files / "client.pem",
            ssl_keyfile=files / "client.key",
        )
    )
    for _ in range(3):
        assert (await probe.attempt(2)).failure is None
        # Session tickets that come along with an answer must not look like news.
        with anyio.move_on_after(0.02) as scope:
            await probe.changed()
        assert scope.cancelled_caught
    secured.server.freeze()
    assert (await probe.attempt(0.1)).failure is not None
    secured.server.thaw()
    with anyio.fail_after(10):
        await probe.changed()
    assert (await probe.attempt(2)).failure is None
    await probe.aclose()


async def test_certificates_that_do_not_fit(secured: Secured) -> None:
    trust = secured.directory / "ca.pem"
    refused = ("CertificateError", True)
    assert await ask(secured.url()) == refused
    named = secured.url("localhost", ssl_ca_certs=trust, ssl_check_hostname="true")
    assert await ask(named) == refused
    assert await ask(secured.url(ssl_ca_certs="/no/such/file")) == refused


async def test_a_server_that_wants_tls(secured: Secured) -> None:
    # OpenSSL either closes at once or sends an alert first, which differs by version.
    answer = await ask(f"redis://127.0.0.1:{secured.port}")
    assert answer in {("ConnectionClosed", False), ("InvalidResponse", True)}


async def test_a_missing_client_certificate(certificates: Path) -> None:
    made = Secured(certificates, client_certificate=True)
    with made.server:
        trusting = made.url(ssl_ca_certs=certificates / "ca.pem")
        assert await ask(trusting) == ("CertificateError", True)


async def test_a_reset_before_the_handshake_leaves_no_socket_open() -> None:
    """Python's `ssl` loses the socket that it was making; closed by chance only, it warns."""
    reset_at_once = struct.pack("ii", 1, 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            for _ in range(20):
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_at_once)
                connection.close()

        refusing = threading.Thread(target=refuse)
        refusing.start()
        probe = RedisProbe(f"rediss://127.0.0.1:{listener.getsockname()[1]}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(20):
                result = await probe.attempt(1.0)
                assert result.failure is not None
                assert result.failure.error_type == "ConnectionClosed"
            gc.collect()
        await probe.aclose()
        refusing.join()
    assert [str(warning.message) for warning in caught] == []
