"""The Kafka probe on brokers of our own making, and on Kafka itself where there is one.

`KAFKA_HOME` is a folder of Kafka's jars, or has one called `libs`, as Kafka's own archive does.
"""

import base64
import hashlib
import hmac
import io
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from orchestrator.checks import kafka
from states import FailureKind
from tests.certificates import HAVE_OPENSSL
from tests.checks.checks_support import asked, server, until_idle, why
from tests.redis_server import free_port, swallowing

pytestmark = pytest.mark.anyio

PERMANENT = FailureKind.PERMANENT
NAME, PASSWORD = "app,=é", "hunter2"


class Broker:
    """Answers as a broker does, each connection in a thread of its own.

    Args:
        advertised: The ports of the brokers that it knows of; its own if not given.
        versions: The least and the most of `Metadata`.
        tls: With TLS.
        sasl: Whether it wants SASL before `Metadata`.
        silent: Accept, and never answer.
        pretends: Take any password, and show none.
    """

    def __init__(
        self,
        advertised: list[int] | None = None,
        *,
        versions: tuple[int, int] = (0, 13),
        tls: ssl.SSLContext | None = None,
        sasl: bool = False,
        silent: bool = False,
        pretends: bool = False,
    ) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._advertised = [self.port] if advertised is None else advertised
        self._versions = versions
        self._tls = tls
        self._sasl = sasl
        self._silent = silent
        self._pretends = pretends
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(sock)
            if not self._silent:
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock, sock.makefile("rwb") as stream:
                self._talk(Requests(stream))
        except (OSError, struct.error):
            pass

    def _talk(self, requests: "Requests") -> None:
        scram = ScramServer(self._pretends)
        logged_in = not self._sasl
        while True:
            key, version, body = requests.next()
            if key == 18:
                apis = struct.pack(">hhhhhh", 18, 0, 4, 3, *self._versions)
                requests.answer(struct.pack(">hi", 0, 2) + apis)
            elif key == 17:
                known = body[2:] in (b"PLAIN", b"SCRAM-SHA-256")
                plain = body[2:] == b"PLAIN"
                requests.answer(struct.pack(">hi", 0 if known else 33, 0))
            elif key == 36:
                token = body[4:]
                good = f"\0{NAME}\0{PASSWORD}".encode()
                said = scram.answer(token)
                if plain:
                    said = b"" if token == good else None
                logged_in = said is not None
                code, said = (0, said) if said is not None else (58, b"")
                requests.answer(struct.pack(">hhi", code, -1, len(said)) + said)
            elif logged_in:
                requests.answer(self._metadata(version))
            else:
                return

    def _metadata(self, version: int) -> bytes:
        host = struct.pack(">h", 9) + b"127.0.0.1"
        brokers = [
            struct.pack(">i", n) + host + struct.pack(">ih", port, -1)
            for n, port in enumerate(self._advertised)
        ]
        throttle = struct.pack(">i", 0) if version > 2 else b""
        rest = struct.pack(">ii", 0, 0)
        return throttle + struct.pack(">i", len(brokers)) + b"".join(brokers) + rest


class Requests:
    """What one client sends."""

    def __init__(self, stream: "io.BufferedRWPair") -> None:
        self._stream = stream
        self._number = b""

    def next(self) -> tuple[int, int, bytes]:
        (size,) = struct.unpack(">i", self._stream.read(4))
        if size > 1_000_000:
            raise OSError("a TLS client's first words, say")
        data = self._stream.read(size)
        key, version = struct.unpack(">hh", data[:4])
        self._number = data[4:8]
        (name_size,) = struct.unpack(">h", data[8:10])
        return key, version, data[10 + name_size :]

    def answer(self, body: bytes) -> None:
        self._stream.write(struct.pack(">i", 4 + len(body)) + self._number + body)
        self._stream.flush()


class ScramServer:
    """The other side of SCRAM-SHA-256, written from RFC 5802."""

    def __init__(self, pretends: bool) -> None:
        self._pretends = pretends
        self._signed = ""

    def answer(self, token: bytes) -> bytes | None:
        text = token.decode()
        if text.startswith("\0"):
            return None
        if text.startswith("n,,"):
            bare = text[3:]
            assert bare.startswith("n=app=2C=3Dé,r=")
            salt = base64.b64encode(b"salt").decode()
            first = f"r={bare.rpartition('r=')[2]}more,s={salt},i=4096"
            self._signed = f"{bare},{first},"
            return first.encode()
        if self._pretends:
            return b"v=" + base64.b64encode(b"x" * 32)
        without_proof, _, proof = text.rpartition(",p=")
        signed = (self._signed + without_proof).encode()
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), b"salt", 4096)
        stored = hashlib.sha256(mac(salted, b"Client Key")).digest()
        signature = mac(stored, signed)
        key = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if hashlib.sha256(key).digest() != stored:
            return None
        return b"v=" + base64.b64encode(mac(mac(salted, b"Server Key"), signed))


def mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


@contextmanager
def broker(advertised: list[int] | None = None, **choices: object) -> Iterator[int]:
    one = Broker(advertised, **choices)  # type: ignore[arg-type]  # passed on as they are
    try:
        yield one.port
    finally:
        one.close()


@pytest.mark.parametrize("versions", [(0, 13), (1, 1), (4, 13)])
async def test_it_holds_where_a_broker_answers_at_its_own_address(
    versions: tuple[int, int],
) -> None:
    with broker(versions=versions) as port, broker([port], versions=versions) as other:
        assert await why(kafka(f"127.0.0.1:{port}")) == ""
        assert await why(kafka([f"127.0.0.1:{free_port()}", f"127.0.0.1:{other}"])) == ""


async def test_what_does_not_answer_leaves_time_for_what_does() -> None:
    with (
        swallowing() as hole,
        broker(silent=True) as frozen,
        broker() as port,
        broker([hole, frozen, port]) as bootstrap,
    ):
        assert await why(kafka(f"127.0.0.1:{frozen},127.0.0.1:{bootstrap}"), 3) == ""
        assert await why(kafka(f"127.0.0.1:{hole},127.0.0.1:{bootstrap}"), 3) == ""


async def test_a_bootstrap_that_advertises_what_cannot_be_reached_does_not_hold(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with swallowing() as hole, broker([hole]) as port, broker([free_port()]) as other:
        probe = kafka(f"127.0.0.1:{port}")
        for _ in range(3):
            began_at = time.perf_counter()
            assert (await why(probe, 0.3)).startswith(f"no broker reachable: 127.0.0.1:{port} ")
            assert time.perf_counter() - began_at < 5
        assert (await why(kafka(f"127.0.0.1:{other}"))).startswith("no broker reachable: ")
        with broker([0, 70_000, -1]) as impossible:
            said = await why(kafka(f"127.0.0.1:{impossible}"))
            assert said.startswith("no broker reachable: ")
        await until_idle()
    assert capfd.readouterr().err == ""


async def test_a_cluster_without_brokers_a_frozen_and_a_closed_one_are_told_apart() -> None:
    with broker([]) as port:
        assert await why(kafka(f"127.0.0.1:{port}")) == f"127.0.0.1:{port} knows of no broker yet"
    assert "refused" in await why(kafka(f"127.0.0.1:{free_port()}"))
    with broker(silent=True) as port:
        probe = kafka(f"127.0.0.1:{port}")
        for _ in range(2):
            said = f"127.0.0.1:{port} gave no answer within 0.3 s, on an accepted connection"
            assert await why(probe, 0.3) == said


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_sasl_logs_in_or_says_why_not(mechanism: str) -> None:
    with broker(sasl=True) as port:
        address = f"127.0.0.1:{port}"
        assert await why(kafka(address, sasl=(mechanism, NAME, PASSWORD))) == ""
        assert await why(kafka(f"localhost:{port}", sasl=(mechanism, NAME, PASSWORD))) == ""
        failure = (await asked(kafka(address, sasl=(mechanism, NAME, "hunter3")))).failure
        assert failure is not None
        assert failure.kind is PERMANENT
        assert failure.reason == f"{address} does not accept the name or the password"
        failure = (await asked(kafka(address, sasl=("SCRAM-SHA-512", NAME, PASSWORD)))).failure
        assert failure is not None
        assert failure.reason == f"{address} has not enabled SCRAM-SHA-512"
        assert "does it require SASL?" in await why(kafka(address))
    if mechanism != "PLAIN":
        with broker(sasl=True, pretends=True) as port:
            said = await why(kafka(f"127.0.0.1:{port}", sasl=(mechanism, NAME, PASSWORD)))
            assert "does not show that it knows the password itself" in said


@pytest.mark.skipif(not HAVE_OPENSSL, reason="needs the openssl program")
async def test_tls_is_checked(certificates: Path) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    trusting = ssl.create_default_context(cafile=certificates / "ca.pem")
    with broker(tls=serving) as port, broker([port]) as plain:
        assert await why(kafka(f"127.0.0.1:{port}", tls=trusting)) == ""
        assert "certificate" in await why(kafka(f"127.0.0.1:{port}", tls=True))
        assert "TLS" in await why(kafka(f"127.0.0.1:{plain}", tls=trusting))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak Kafka"),
        (b"SSH-2.0-OpenSSH\r\n", "does not speak Kafka"),
        (b"\x15\x03\x03\0\x02\x02\x16", "expects TLS: write tls=True"),
        (b"", "closed the connection"),
        (b"\0\0\0\x04\0\0\0\x09", "does not speak Kafka"),
        (b"\0\0\0\x06\0\0\0\x01\0\0", "does not speak Kafka"),
        (b"\0\0\0\x0a\0\0\0\x01\0\0\xff\xff\xff\xff", "does not speak Kafka"),
        (b"\0\0\0\x0a\0\0\0\x01\0\0\x7f\xff\xff\xff", "does not speak Kafka"),
        (b"\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0", "no version of Kafka that is known here"),
    ],
)
async def test_what_is_no_broker_is_told_apart(answer: bytes, reason: str) -> None:
    with server(answer) as port:
        assert reason in await why(kafka(f"127.0.0.1:{port}"))


@pytest.mark.parametrize(
    ("bootstrap", "sasl"),
    [
        ("", None),
        ("kafka:0", None),
        ("kafka:70000", None),
        ("user:hunter2@kafka:1", None),
        (["kafka:1", "kafka//hunter2"], None),
        ("kafka", ("GSSAPI", "app", "hunter2")),
        ("kafka", ("PLAIN", "", "hunter2")),
        ("kafka", ("PLAIN", "app", "hunter2\0")),
    ],
)
def test_what_cannot_be_asked_is_refused_without_being_shown(
    bootstrap: str, sasl: tuple[str, str, str] | None
) -> None:
    with pytest.raises(ValueError, match=r"bootstrap|sasl") as refused:
        kafka(bootstrap, sasl=sasl)
    assert "hunter2" not in str(refused.value)


# -- Kafka itself ----------------------------------------------------------------------------------


def properties(port: int, dead: int, data: Path) -> str:
    return f"""
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{port + 3}
listeners=PLAIN://127.0.0.1:{port},SASL://127.0.0.1:{port + 1},DEAD://127.0.0.1:{port + 2},\
CTRL://127.0.0.1:{port + 3}
advertised.listeners=PLAIN://127.0.0.1:{port},SASL://127.0.0.1:{port + 1},DEAD://127.0.0.1:{dead}
listener.security.protocol.map=PLAIN:PLAINTEXT,SASL:SASL_PLAINTEXT,DEAD:PLAINTEXT,CTRL:PLAINTEXT
controller.listener.names=CTRL
inter.broker.listener.name=PLAIN
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs={data}
offsets.topic.replication.factor=1
"""


@contextmanager
def real_kafka(directory: Path, dead: int) -> Iterator[int]:
    home = os.environ.get("KAFKA_HOME")
    if home is None or shutil.which("java") is None:
        pytest.skip("needs java, and KAFKA_HOME to say where Kafka's jars are")
    jars = Path(home) / "libs" if (Path(home) / "libs").is_dir() else Path(home)
    java = ["java", "-Xmx384m", "-cp", f"{jars}/*"]
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1] + 1
    (directory / "server.properties").write_text(properties(port, dead, directory / "data"))
    format_ = [*java, "kafka.tools.StorageTool", "format", "-t", "A" * 22]
    user = ["-S", "SCRAM-SHA-512=[name=app,password=sesame]"]
    said = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory}
    subprocess.run([*format_, "-c", "server.properties", *user], check=True, **said)  # type: ignore[call-overload]  # as they are
    with subprocess.Popen([*java, "kafka.Kafka", "server.properties"], **said) as process:  # type: ignore[call-overload]  # as they are
        try:
            yield port
        finally:
            process.kill()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_kafka_itself_is_told_from_one_that_nobody_reaches(tmp_path: Path) -> None:
    with swallowing() as hole, real_kafka(tmp_path, hole) as port:
        address = f"127.0.0.1:{port}"
        with anyio.fail_after(120):
            while await why(kafka(address), 5):
                await anyio.sleep(0.2)  # it has no other way to say that it is up
        right, wrong = ("SCRAM-SHA-512", "app", "sesame"), ("SCRAM-SHA-512", "app", "hunter2")
        sasl = f"127.0.0.1:{port + 1}"
        assert await why(kafka(f"localhost:{port}"), 20) == ""
        assert await why(kafka(sasl, sasl=right), 20) == ""
        assert "the name or the password" in await why(kafka(sasl, sasl=wrong), 20)
        assert "does it require SASL?" in await why(kafka(sasl), 20)
        assert "no broker reachable" in await why(kafka(f"127.0.0.1:{port + 2}"), 1)
