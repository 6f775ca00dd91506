"""Scenes around a real Redis: TLS, protected mode, other protocols, sentinels, clusters."""

import http.server
import inspect
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Self
from urllib.parse import urlencode

import redis

from orchestrator.redis import Expect, RedisProbe
from tests.certificates import HAVE_OPENSSL, make_certificates
from tests.faults.real_scenes import Real, answer, real, replica
from tests.faults.scenes import Scene, Stage, Unavailable
from tests.redis_server import (
    NO_TLS,
    FakeServer,
    RedisServer,
    find_redis_server,
    free_port,
    greeted_then,
    has_tls,
    relay,
)

# -- protected mode -------------------------------------------------------------------------------


@contextmanager
def protected() -> Iterator[Scene]:
    # To Redis 7 everything but 127.0.0.1 is another machine, so no real one is needed.
    with real() as server, FakeServer(relay(server.server.port, "127.0.0.2")) as other_machine:
        if answer(other_machine.port).startswith(b"+PONG"):
            raise Unavailable("to this server all of 127.0.0.0/8 is this machine")
        other_machine.accepted = 0
        yield Scene(other_machine.url, lambda: other_machine.accepted, lambda: other_machine.open)


# -- TLS ------------------------------------------------------------------------------------------


_KNOWS_CIPHERS = "ssl_ciphers" in inspect.signature(redis.SSLConnection.__init__).parameters


def over_tls(
    *,
    host: str = "127.0.0.1",
    scheme: str = "rediss",
    client: str = "no",
    trust: bool = True,
    ours: Mapping[str, str] = MappingProxyType({}),
) -> Stage:
    """A real server that speaks TLS, counted at a relay: Redis counts only finished handshakes.

    `ours` are further options of the client; what ends like a file is one of the certificates'.
    """

    @contextmanager
    def open_it() -> Iterator[Scene]:
        if not HAVE_OPENSSL:
            raise Unavailable("there is no openssl to make certificates with")
        if "ssl_ciphers" in ours and not _KNOWS_CIPHERS:
            raise Unavailable("this redis-py has no option ssl_ciphers")
        with tempfile.TemporaryDirectory(prefix="tls-") as path:
            files = Path(path)
            make_certificates(files)
            with tls_server(files, client) as port, FakeServer(relay(port)) as counting:
                options = {"ssl_ca_certs": str(files / "ca.pem")} if trust else {}
                for name, value in ours.items():
                    is_file = value.endswith((".pem", ".key"))
                    options[name] = str(files / value) if is_file else value
                if scheme == "redis":
                    options = {}
                if host != "127.0.0.1":
                    options["ssl_check_hostname"] = "true"
                url = f"{scheme}://{host}:{counting.port}/0?{urlencode(options)}"
                yield Scene(url, lambda: counting.accepted, lambda: counting.open)

    return open_it


@contextmanager
def tls_server(files: Path, client: str = "no") -> Iterator[int]:
    """The port of a Redis with the certificates in `files`."""
    if not has_tls(find_redis_server()):
        raise Unavailable(NO_TLS)
    port = free_port()
    server = RedisServer(
        None,
        *("--tls-port", str(port), "--tls-auth-clients", client),
        *("--tls-cert-file", str(files / "server.pem")),
        *("--tls-key-file", str(files / "server.key")),
        *("--tls-ca-cert-file", str(files / "ca.pem")),
    )
    with server:
        yield port


@contextmanager
def plaintext_asked_for_tls() -> Iterator[Scene]:
    with real() as server:
        yield server.scene(url=server.server.url.replace("redis://", "rediss://"))


# -- other protocols ------------------------------------------------------------------------------


class _Silent(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        pass


class _Counting(http.server.ThreadingHTTPServer):
    accepted = 0

    def get_request(self) -> tuple[object, object]:  # type: ignore[override]  # what a socket accepts
        request = super().get_request()
        self.accepted += 1
        return request


@contextmanager
def http_server() -> Iterator[Scene]:
    with _Counting(("127.0.0.1", 0), _Silent) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield Scene(f"redis://127.0.0.1:{server.server_port}/0", lambda: server.accepted)
        server.shutdown()
        thread.join(5)


# -- clusters -------------------------------------------------------------------------------------


@contextmanager
def cluster_node() -> Iterator[Real]:
    """A node of a cluster that serves no slots, so that the state of the cluster is `fail`."""
    # The bus listens 10000 above by default, which may be above all ports.
    with ExitStack() as stack:
        bus = ("--cluster-port", str(free_port()))
        try:
            node = stack.enter_context(real("--cluster-enabled", "yes", *bus))
        except RuntimeError:
            raise Unavailable("this redis-server knows no --cluster-port") from None
        yield node


def lone_node(expect: Expect) -> Stage:
    """Such a node, asked with `expect`."""

    @contextmanager
    def open_it() -> Iterator[Scene]:
        with cluster_node() as server:
            yield server.scene(expect=expect)

    return open_it


# -- sentinels ------------------------------------------------------------------------------------


class Sentinel:
    """A real sentinel that watches one master.

    Args:
        master_port: Where the master is.
        quorum: How many sentinels must agree that it is gone.
        down_after_milliseconds: How long it must be silent for that.
        name: What the master is called.
        password: What the master wants.
    """

    def __init__(
        self,
        master_port: int,
        *,
        quorum: int = 1,
        down_after_milliseconds: int = 500,
        name: str = "chat",
        password: str = "",
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sentinel-")
        configuration = Path(self._directory.name) / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor {name} 127.0.0.1 {master_port} {quorum}\n"
            f"sentinel down-after-milliseconds {name} {down_after_milliseconds}\n"
            f"sentinel failover-timeout {name} 3000\n"
            + (f"sentinel auth-pass {name} {password}\n" if password else "")
        )
        self.server = RedisServer(configuration=configuration)

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.server.port)

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()
        self._directory.cleanup()


@contextmanager
def no_sentinel() -> Iterator[Scene]:
    sentinels = [("127.0.0.1", free_port()) for _ in range(3)]
    yield Scene("redis://", make=lambda: RedisProbe.from_sentinel(sentinels, "chat"))


@contextmanager
def unknown_service() -> Iterator[Scene]:
    with real() as master, Sentinel(master.server.port) as sentinel:
        yield Scene(
            "redis://", make=lambda: RedisProbe.from_sentinel([sentinel.address], "another")
        )


@contextmanager
def dead_master() -> Iterator[Scene]:
    with (
        RedisServer() as master,
        # It takes a minute to believe that the master is gone, so it goes on naming it.
        Sentinel(master.port, down_after_milliseconds=60_000) as sentinel,
    ):
        master.kill()
        yield Scene("redis://", make=lambda: RedisProbe.from_sentinel([sentinel.address], "chat"))


@contextmanager
def sentinel_names_no_address() -> Iterator[Scene]:
    """A number where the host belongs, as many bytes as which must not be made of it."""
    with FakeServer(greeted_then(b"*2\r\n:1500000000\r\n$4\r\n6379\r\n")) as sentinel:
        address = ("127.0.0.1", sentinel.port)
        yield Scene("redis://", make=lambda: RedisProbe.from_sentinel([address], "chat"))


@contextmanager
def sentinel_names_a_replica() -> Iterator[Scene]:
    """A sentinel that has not yet heard of a failover."""
    with replica(Expect())() as scene:
        port = str(RedisProbe(scene.url).target.port)
        answer = f"*2\r\n$9\r\n127.0.0.1\r\n${len(port)}\r\n{port}\r\n"
        with FakeServer(greeted_then(answer.encode())) as sentinel:
            address = ("127.0.0.1", sentinel.port)
            scene.make = lambda: RedisProbe.from_sentinel([address], "chat")
            yield scene
