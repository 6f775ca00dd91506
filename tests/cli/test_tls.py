"""`check` over TLS, where it goes wrong."""

import contextlib
import socket
import ssl
from pathlib import Path

import pytest

from orchestrator.cli import main
from tests.certificates import HAVE_OPENSSL, make_certificates
from tests.redis_server import FakeServer, saying


def test_tls_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        url = f"https://127.0.0.1:{server.port}/livez"
        assert main(["check", url, "--timeout", "10"]) == 2
    says = f"startup-orchestrator: {url}: the TLS handshake failed: is it http:// there?\n"
    assert capsys.readouterr().err == says


@pytest.mark.skipif(not HAVE_OPENSSL, reason="openssl is not installed")
def test_tls_that_is_not_trusted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")

    def talk(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(sock, server_side=True) as secure:
            secure.recv(1)

    with FakeServer(talk) as server:
        assert main(["check", f"https://127.0.0.1:{server.port}", "--timeout", "10"]) == 2
    error = capsys.readouterr().err
    assert "its certificate is not accepted: unable to get local issuer certificate\n" in error
