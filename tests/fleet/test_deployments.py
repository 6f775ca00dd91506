"""Publishing to a cluster, by sentinels, over TLS, and to a Redis that ends connections."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import redis

from orchestrator.fleet import Fleet, _own_messages, follow, follow_sentinel
from tests.certificates import HAVE_OPENSSL, make_certificates
from tests.faults.net_scenes import Sentinel
from tests.faults.scenes import SECRET, wait_until
from tests.fleet.published import KEYS, admin, publishing, told
from tests.fleet.servers import EACH_PROGRAM, PROGRAMS
from tests.redis_server import NO_TLS, RedisServer, find_redis_server, free_port, has_tls

HALF = 16384 // 2


def up_to(last: int) -> list[int]:
    return list(range(1, last + 1))


_BUS = 10_000
"""So far above its port a node talks to the others; before Redis 7 that can't be chosen."""


def port_of_node() -> int:
    """A free port, whose other one is free, too."""
    while True:
        port = free_port()
        with socket.socket() as bus, suppress(OSError, OverflowError):
            bus.bind(("127.0.0.1", port + _BUS))
            return port


@contextmanager
def cluster(program: str) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two nodes: the one that has the slot of the service, and one that has not."""
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(RedisServer(port_of_node(), *options, binary=PROGRAMS[program]))
            for _ in range(2)
        ]
        first, second = asked = [stack.enter_context(client_of(node)) for node in nodes]
        slot = int(first("CLUSTER", "KEYSLOT", KEYS.events))
        second("CLUSTER", "SET-CONFIG-EPOCH", "2")
        for number, ask in enumerate(asked):
            ask("CLUSTER", "ADDSLOTS", *map(str, range(number * HALF, number * HALF + HALF)))
        second("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port))
        for ask in asked:
            wait_until(partial(is_whole, ask), 60)
        yield (nodes[0], nodes[1]) if slot < HALF else (nodes[1], nodes[0])


def is_whole(ask: Callable[..., Any]) -> bool:
    """Whether the node knows the other, and takes the cluster for well."""
    said = ask("CLUSTER", "INFO")
    return "cluster_state:ok" in said and "cluster_slots_ok:16384" in said


@contextmanager
def client_of(node: RedisServer) -> Iterator[Callable[..., Any]]:
    with admin(node) as client:
        yield client.execute_command


program = pytest.mark.parametrize("program", EACH_PROGRAM)


@program
def test_any_node_of_a_cluster_leads_to_the_one_that_has_the_keys(program: str) -> None:
    with cluster(program) as (owner, other), admin(owner) as client:
        for node, connects in ((owner, 1), (other, 2)):
            client.flushall()
            with publishing(node.url) as one:
                one.change(3)
                one.until_told()
                assert told(client) == [1, 2, 3]
                assert one.publisher.connects == connects


@program
@pytest.mark.anyio
async def test_any_node_of_a_cluster_leads_a_reader_to_the_keys(
    program: str, anyio_backend: str
) -> None:
    with cluster(program) as (first, second), publishing(first.url) as one:
        one.change(2)
        await anyio.to_thread.run_sync(one.until_told)
        for node in (first, second):
            async with follow(node.url, service="chat") as fleet:
                assert set(fleet.instances) == {one.incarnation}


def test_a_redis_that_ends_idle_connections_gets_every_beat(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_own_messages, "_BEAT_SECONDS", 0.2)
    with RedisServer() as server, admin(server) as client, publishing(server.url) as one:
        one.change()
        one.until_told()
        for number in range(2, 5):
            client.client_kill_filter(_type="normal", skipme=True)
            one.change()
            one.until_told()
            assert one.publisher.connects == number
        assert told(client) == [1, 2, 3, 4]
        assert one.publisher.said == set()
        assert caplog.text == ""


@pytest.mark.long
def test_the_master_that_sentinels_name_gets_all_of_it_also_after_a_failover() -> None:
    quickly = ("--repl-diskless-sync-delay", "0")
    with ExitStack() as stack:
        master = stack.enter_context(RedisServer(None, *quickly))
        of_it = ("--replicaof", "127.0.0.1", str(master.port))
        replica = stack.enter_context(RedisServer(None, *quickly, *of_it))
        client = stack.enter_context(admin(replica))
        sentinel = stack.enter_context(Sentinel(master.port))
        with redis.Redis(port=sentinel.server.port) as asked:
            wait_until(lambda: len(asked.sentinel_slaves("chat")) == 1, 60)
        fleet = Fleet.from_sentinel([sentinel.address], "chat", service="chat")
        with publishing(fleet._settings) as one:
            one.change(5)
            one.until_told()
            wait_until(lambda: told(client) == up_to(5))
            master.kill()
            one.change(5)
            wait_until(lambda: told(client) == up_to(10), 60)
            anyio.run(read_by_sentinel, sentinel.address, one.incarnation)


async def read_by_sentinel(sentinel: tuple[str, int], incarnation: str) -> None:
    async with follow_sentinel([sentinel], "chat", service="chat") as fleet:
        assert fleet.instances[incarnation].state.entry.sequence == 10


class Login(redis.CredentialProvider):
    """Gives a token, as a cloud's identity does; how often is counted."""

    def __init__(self) -> None:
        self.times = 0

    def get_credentials(self) -> tuple[str, str]:
        self.times += 1
        return "default", SECRET


@pytest.mark.skipif(not HAVE_OPENSSL, reason="needs openssl for certificates")
def test_over_tls_with_a_login_that_is_asked_for_each_connection(tmp_path: Path) -> None:
    if not has_tls(find_redis_server()):
        pytest.skip(NO_TLS)
    make_certificates(tmp_path)
    port, login = free_port(), Login()
    options = (
        *("--tls-port", str(port), "--tls-auth-clients", "no", "--requirepass", SECRET),
        *("--tls-cert-file", str(tmp_path / "server.pem")),
        *("--tls-key-file", str(tmp_path / "server.key")),
        *("--tls-ca-cert-file", str(tmp_path / "ca.pem")),
    )
    with RedisServer(None, *options) as server:
        ca = str(tmp_path / "ca.pem")
        address: Any = {"host": "127.0.0.1", "port": port, "ssl": True, "ssl_ca_certs": ca}
        secured = redis.Redis(**address, credential_provider=login)
        fleet = Fleet.from_client(secured, service="chat")
        with (
            redis.Redis(port=server.port, password=SECRET, decode_responses=True) as client,
            publishing(fleet._settings) as one,
        ):
            one.change(3)
            one.until_told()
            client.client_kill_filter(_type="normal", skipme=True)
            one.change()
            one.until_told()
            assert told(client) == [1, 2, 3, 4]
            assert login.times == one.publisher.connects == 2
