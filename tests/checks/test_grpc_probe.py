"""The gRPC probe on real gRPC servers, and on what is none."""

import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import pytest

from orchestrator.checks import grpc as grpc_probe
from states import FailureKind
from tests.certificates import HAVE_OPENSSL
from tests.checks.checks_support import asked, server, until_idle, why
from tests.redis_server import free_port

pytestmark = pytest.mark.anyio

TRANSIENT, PERMANENT = FailureKind.TRANSIENT, FailureKind.PERMANENT


class Serves(StrEnum):
    HEALTH = "health"
    NOTHING = "nothing"
    REFUSALS = "refusals"


@contextmanager
def grpc_server(
    address: str = "127.0.0.1:0",
    serves: Serves = Serves.HEALTH,
    certificate: tuple[bytes, bytes] | None = None,
) -> Iterator[tuple[int, Callable[[str, int], None]]]:
    """A real server: its port, and how to set what its health service says."""
    needs = "needs grpcio-health-checking"
    grpc = pytest.importorskip("grpc", reason="needs grpcio")
    health = pytest.importorskip("grpc_health.v1.health", reason=needs)
    stubs = pytest.importorskip("grpc_health.v1.health_pb2_grpc", reason=needs)
    servicer = health.HealthServicer()
    with ThreadPoolExecutor(2) as pool:
        one = grpc.server(pool)
        if serves is Serves.HEALTH:
            stubs.add_HealthServicer_to_server(servicer, one)
        elif serves is Serves.REFUSALS:
            refuser = grpc.unary_unary_rpc_method_handler(
                lambda _, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "hunter2")
            )
            handlers = {"Check": refuser}
            handler = grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)
            one.add_generic_rpc_handlers([handler])
        if certificate is None:
            port = one.add_insecure_port(address)
        else:
            port = one.add_secure_port(address, grpc.ssl_server_credentials([certificate]))
        one.start()
        try:
            yield port, servicer.set
        finally:
            one.stop(None).wait()


async def test_it_holds_while_the_service_serves() -> None:
    with grpc_server() as (port, say):
        for service in ("", "chat.Chat"):
            probe = grpc_probe(f"127.0.0.1:{port}", service)
            wanted = [
                (1, ""),
                (2, f"127.0.0.1:{port} says NOT_SERVING"),
                (0, f"127.0.0.1:{port} says UNKNOWN"),
                (1, ""),
            ]
            for status, reason in wanted:
                say(service, status)
                assert await why(probe) == reason
        failure = (await asked(grpc_probe(f"localhost:{port}", "nobody"))).failure
        assert failure is not None
        assert (failure.kind, failure.error_type) == (PERMANENT, "NOT_FOUND")
    assert await why(probe) == f"127.0.0.1:{port} refused the connection: nothing listens there"


async def test_a_server_that_does_not_answer_the_question_is_told_apart() -> None:
    with grpc_server(serves=Serves.NOTHING) as (port, _):
        failure = (await asked(grpc_probe(f"127.0.0.1:{port}"))).failure
        assert failure is not None
        assert (failure.kind, failure.error_type) == (PERMANENT, "UNIMPLEMENTED")
    with grpc_server(serves=Serves.REFUSALS) as (port, _):
        probe = grpc_probe(f"127.0.0.1:{port}", metadata={"Authorization": "sesame"})
        failure = (await asked(probe)).failure
        assert failure is not None
        assert (failure.kind, failure.error_type) == (PERMANENT, "UNAUTHENTICATED")
        assert "hunter2" not in failure.reason


async def test_a_unix_socket_is_asked_too(tmp_path: Path) -> None:
    path = f"unix:{tmp_path}/grpc.sock"
    with grpc_server(path):
        assert await why(grpc_probe(path)) == ""
    assert "there is no such socket yet" in await why(grpc_probe(path))


@pytest.mark.skipif(not HAVE_OPENSSL, reason="needs the openssl program")
async def test_tls_is_checked_and_its_failures_are_told_apart(
    certificates: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key, chain = (
        (certificates / "server.key").read_bytes(),
        (certificates / "server.pem").read_bytes(),
    )
    trusting = ssl.create_default_context(cafile=certificates / "ca.pem")
    with grpc_server(certificate=(key, chain)) as (port, _):
        address = f"127.0.0.1:{port}"
        no_h2 = (await asked(grpc_probe(address, tls=trusting))).failure
        trusting.set_alpn_protocols(["h2"])
        assert await why(grpc_probe(address, tls=trusting)) == ""
        untrusted = (await asked(grpc_probe(address, tls=True))).failure
        assert untrusted is not None
        assert (untrusted.kind, untrusted.error_type) == (PERMANENT, "CertificateError")
        plain = await why(grpc_probe(address))
    with grpc_server() as (port, _):
        mismatch = (await asked(grpc_probe(f"127.0.0.1:{port}", tls=True))).failure
    assert no_h2 is not None
    assert "set_alpn_protocols" in no_h2.reason or "closed" in no_h2.reason
    assert "TLS" in plain
    assert mismatch is not None
    assert mismatch.kind is TRANSIENT or mismatch.error_type == "TlsMismatch"
    written = capfd.readouterr().err
    assert not [line for line in written.splitlines() if "ssl_transport" not in line]


H2_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak gRPC"),
        (b"SSH-2.0-OpenSSH\r\n" * 3, "does not speak gRPC"),
        (b"\x15\x03\x01\0\x02\x02\x16", "expects TLS: write tls=True"),
        (b"", "closed the connection"),
        (H2_SETTINGS, "closed the connection"),
        (H2_SETTINGS + b"\0\0\x01\x01\x05\0\0\0\x01\x88", "does not speak gRPC"),
        (H2_SETTINGS + b"\0\0\x05\x01\x05\0\0\0\x01\x08\x03404", "serves no grpc.health.v1"),
        (H2_SETTINGS + b"\0\0\x05\x01\x05\0\0\0\x01\x08\x03503", "answered HTTP 503"),
        (H2_SETTINGS + b"\0\0\x04\x03\0\0\0\0\x01\0\0\0\x07", "ended the call"),
        (H2_SETTINGS + b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0", "ended the call"),
    ],
)
async def test_what_is_no_grpc_server_is_told_apart(answer: bytes, reason: str) -> None:
    with server(answer) as port:
        assert reason in await why(grpc_probe(f"127.0.0.1:{port}"))


async def test_a_server_that_is_silent_ends_with_the_attempt_and_leaves_no_thread() -> None:
    with server(b"", hold=0.3) as port:
        reason = await why(grpc_probe(f"127.0.0.1:{port}"), 0.1)
        assert reason == f"127.0.0.1:{port} gave no answer within 0.1 s, on an accepted connection"
    await until_idle()
    assert "refused" in await why(grpc_probe(f"127.0.0.1:{free_port()}"))


@pytest.mark.parametrize(
    "address", ["", "chat", "chat:0", "chat:70000", "http://chat:1", "u:hunter2@chat:1", "a b:1"]
)
def test_an_address_that_cannot_be_asked_is_refused_without_being_shown(address: str) -> None:
    with pytest.raises(ValueError, match="address") as refused:
        grpc_probe(address)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    "metadata", [{"grpc-x": "1"}, {"a b": "1"}, {":path": "/"}, {"x-bin": "1"}, {"a": "hünter2"}]
)
def test_metadata_that_grpc_does_not_allow_is_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="metadata") as refused:
        grpc_probe("chat:1", metadata=metadata)
    assert "nter2" not in str(refused.value)
