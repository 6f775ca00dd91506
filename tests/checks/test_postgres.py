"""`postgres` on a real PostgreSQL: late, frozen, killed, full, and with every way to log in."""

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from orchestrator import Check, Failure, FailureKind, Orchestrator, Stage
from orchestrator.checks import PostgresProbe, call, postgres
from orchestrator.checks._postgres.conninfo import options_of_dsn
from tests.certificates import HAVE_OPENSSL
from tests.checks.stalling_proxy import StallingProxy
from tests.postgres_server import PASSWORD, USER, PostgresProcess, find_postgres

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(find_postgres() is None, reason="needs PostgreSQL (initdb)"),
    pytest.mark.skipif(not HAVE_OPENSSL, reason="needs the openssl program"),
]

HBA = """
hostssl all only_tls 127.0.0.1/32 scram-sha-256
hostnossl all no_tls 127.0.0.1/32 scram-sha-256
host all only_tls,no_tls 127.0.0.1/32 reject
host all clear 127.0.0.1/32 password
host all old 127.0.0.1/32 md5
host all anyone 127.0.0.1/32 trust
hostssl all client 127.0.0.1/32 cert
host all elsewhere 127.0.0.1/32 ident
"""
ROLES = "only_tls no_tls clear anyone client"
MOST = 12


@pytest.fixture(scope="module")
def server(certificates: Path) -> Iterator[PostgresProcess]:
    limits = ("-c", f"max_connections={MOST}", "-c", "superuser_reserved_connections=3")
    with PostgresProcess(*limits) as server:
        for name in ("ca.pem", "server.pem", "server.key"):
            server.give(name, (certificates / name).read_bytes())
        files = "ssl_ca_file='ca.pem'\nssl_cert_file='server.pem'\nssl_key_file='server.key'"
        server.append("postgresql.conf", f"ssl=on\n{files}")
        server.append("pg_hba.conf", HBA)
        server.sql(
            *(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'" for name in ROLES.split()),
            "SET password_encryption = 'md5'",
            f"CREATE ROLE old LOGIN PASSWORD '{PASSWORD}'",
            f"CREATE ROLE barred PASSWORD '{PASSWORD}'",
            "CREATE DATABASE closed ALLOW_CONNECTIONS false",
            "CREATE DATABASE private",
            "REVOKE CONNECT ON DATABASE private FROM public",
        )
        server.reload()
        yield server


async def attempt(probe: PostgresProbe, seconds: float = 20.0) -> Failure | None:
    failure = (await probe.attempt(seconds)).failure
    assert PASSWORD not in repr(failure)
    return failure


@asynccontextmanager
async def asking(source: object, **options: Any) -> AsyncIterator[PostgresProbe]:
    probe = postgres(source, **options)
    try:
        yield probe
    finally:
        await probe.aclose()


async def outcome(source: object) -> str:
    """The type of the failure; empty for none. Twice: the second attempt must say the same."""
    async with asking(source) as probe:
        said = [getattr(await attempt(probe), "error_type", "") for _ in range(2)]
    assert said[0] == said[1]
    return str(said[0])


async def test_every_way_to_log_in_works_or_says_why_not(
    server: PostgresProcess, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(server.directory))
    full = {"sslmode": "verify-full", "sslrootcert": f"{certificates}/ca.pem"}
    mine = {"sslcert": f"{certificates}/client.pem", "sslkey": f"{certificates}/client.key"}
    cases: list[tuple[dict[str, str], str]] = [
        ({}, ""),
        ({"host": str(server.directory)}, ""),
        ({"user": "clear"}, ""),
        ({"user": "old"}, ""),
        ({"user": "anyone", "password": ""}, ""),
        ({"user": "anyone", "require_auth": "scram-sha-256"}, "AuthenticationMethod"),
        ({"user": "clear", "require_auth": "!password"}, "AuthenticationMethod"),
        ({"user": "elsewhere"}, "AuthenticationError"),
        ({"password": "hunter2"}, "AuthenticationError"),
        ({"password": ""}, "AuthenticationError"),
        ({"user": "nobody"}, "AuthenticationError"),
        ({"user": "barred"}, "AuthenticationError"),
        ({"dbname": "nowhere"}, "UnknownDatabase"),
        ({"dbname": "closed"}, "DatabaseClosed"),
        ({"dbname": "private", "user": "clear"}, "NoPermission"),
        ({"options": "-c no_such_setting=1"}, "BadOptions"),
        ({"options": "-c statement_timeout=5s", "application_name": "me"}, ""),
        ({"target_session_attrs": "read-write"}, ""),
        ({"target_session_attrs": "primary"}, ""),
        ({"target_session_attrs": "prefer-standby"}, ""),
        ({"target_session_attrs": "standby"}, "WrongSession"),
        ({"target_session_attrs": "read-only"}, "WrongSession"),
        ({"user": "only_tls", "sslmode": "disable"}, "AuthenticationError"),
        ({"user": "only_tls", "sslmode": "allow"}, ""),
        ({"user": "only_tls"}, ""),
        ({"user": "no_tls"}, ""),
        ({"user": "no_tls", "sslmode": "require"}, "AuthenticationError"),
        ({"sslmode": "require", "channel_binding": "require"}, ""),
        ({"sslmode": "disable", "channel_binding": "require"}, "AuthenticationMethod"),
        ({"sslmode": "require", "channel_binding": "disable"}, ""),
        (full, ""),
        ({**full, "ssl_min_protocol_version": "TLSv1.3", "sslsni": "0"}, ""),
        ({**full, "host": "localhost", "hostaddr": "127.0.0.1"}, "CertificateError"),
        ({**full, "sslmode": "verify-ca", "host": "localhost", "hostaddr": "127.0.0.1"}, ""),
        ({**full, "sslrootcert": f"{certificates}/client.pem"}, "CertificateError"),
        ({**full, "sslrootcert": "system"}, "CertificateError"),
        ({"sslmode": "verify-ca"}, "CertificateError"),
        ({**full, **mine, "user": "client", "password": ""}, ""),
        ({**full, "user": "client", "password": ""}, "AuthenticationError"),
    ]
    for options, wanted in cases:
        dsn = server.dsn(**{"database": options.pop("dbname", "postgres"), **options})
        assert await outcome(dsn) == wanted, options


async def test_what_a_dsn_does_not_say_is_as_in_libpq(
    server: PostgresProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGPORT", str(server.port))
    monkeypatch.setenv("PGUSER", USER)
    monkeypatch.setenv("PGDATABASE", "postgres")
    assert await outcome("") == "AuthenticationError"
    passwords = tmp_path / ".pgpass"
    passwords.write_text(f"# mine\nother:*:*:*:no\n127.0.0.1:{server.port}:*:{USER}:{PASSWORD}\n")
    assert await outcome("") == "AuthenticationError"  # others may read it
    passwords.chmod(0o600)
    assert await outcome("") == ""
    assert await outcome("postgresql:///nowhere") == "UnknownDatabase"
    (tmp_path / ".pg_service.conf").write_text(f"[mine]\ndbname=nowhere\npassword={PASSWORD}\n")
    assert await outcome("service=mine") == "UnknownDatabase"
    assert await outcome("service=mine dbname=postgres") == ""
    tokens = iter(["hunter2", PASSWORD])
    async with asking(server.dsn(), password=lambda: next(tokens)) as probe:
        assert getattr(await attempt(probe), "error_type", "") == "AuthenticationError"
        assert await attempt(probe) is None


async def test_frozen_full_and_stalled_servers_are_told_apart_and_come_back(
    server: PostgresProcess,
) -> None:
    async with asking(server.dsn()) as probe:
        assert await attempt(probe) is None
        server.freeze()
        try:
            began_at = time.perf_counter()
            failures = [await attempt(probe, 0.1) for _ in range(2)]
            assert time.perf_counter() - began_at < 5
        finally:
            server.thaw()
        assert {getattr(one, "error_type", "") for one in failures} == {"TimeoutError"}
        with anyio.fail_after(20):
            await probe.changed()  # the late answer
        assert await attempt(probe) is None
        with StallingProxy(server.port) as proxy:
            async with asking(server.dsn(port=str(proxy.port))) as through:
                assert await attempt(through) is None
                proxy.stall()
                for _ in range(5):
                    assert getattr(await attempt(through, 0.05), "error_type", "") == "TimeoutError"
                proxy.resume()
                assert await attempt(through) is None
                assert proxy.accepted <= 2


async def test_a_database_that_is_full_is_still_seen_to_answer(server: PostgresProcess) -> None:
    dsn = server.dsn(user="clear")
    probes = [postgres(dsn) for _ in range(MOST)]
    try:
        failures = [await attempt(probe) for probe in probes]
        refused = [one for one in failures if one is not None]
        assert {(one.error_type, one.congestion) for one in refused} == {
            ("TooManyConnections", True)
        }
        assert await attempt(probes[0]) is None
    finally:
        for probe in probes:
            await probe.aclose()


async def test_it_can_be_the_orchestrators_own_probe(server: PostgresProcess) -> None:
    check = Check("database", postgres(server.dsn()))
    async with Orchestrator(postgres(server.dsn()), conditions=[check]) as startup:
        with anyio.fail_after(30):
            await startup.wait_for(Stage.READY)


# -- what the application has ----------------------------------------------------------------------


async def test_an_engine_of_sqlalchemy_says_where_to_connect(server: PostgresProcess) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy")
    pytest.importorskip("psycopg", reason="needs psycopg")
    pytest.importorskip("asyncpg", reason="needs asyncpg")
    from sqlalchemy.ext.asyncio import create_async_engine

    place = f"127.0.0.1:{server.port}"
    where = f"{place}/postgres"
    login = f"{USER}:{quote(PASSWORD)}"
    token = sqlalchemy.create_engine(f"postgresql+psycopg://{USER}@{where}")

    @sqlalchemy.event.listens_for(token, "do_connect")  # type: ignore[untyped-decorator]  # theirs
    def give_token(_dialect: object, _record: object, _args: object, named: dict[str, str]) -> None:
        named["password"] = PASSWORD

    given = {"password": PASSWORD, "ssl": "require"}
    for source in (
        sqlalchemy.create_engine(f"postgresql+psycopg://{login}@{where}"),
        sqlalchemy.create_engine(f"postgresql+psycopg://{login}@{where}").url,
        create_async_engine(f"postgresql+asyncpg://{login}@{where}"),
        create_async_engine(f"postgresql+asyncpg://{USER}@{where}", connect_args=given),
        create_async_engine(f"postgresql+asyncpg://{login}@/postgres?host={place}"),
        f"postgresql+psycopg2://{login}@{where}?executemany_mode=values_only",
        token,
    ):
        assert await outcome(source) == ""
        assert postgres(source).target.port == server.port
    for wrong in (
        sqlalchemy.create_engine("sqlite://"),
        sqlalchemy.create_engine("postgresql+psycopg://", creator=lambda: None),
        str(sqlalchemy.create_engine(f"postgresql+psycopg://{login}@{where}").url),
    ):
        with pytest.raises(ValueError, match="engine"):
            postgres(wrong)


async def test_an_entry_of_djangos_databases_says_where_to_connect(server: PostgresProcess) -> None:
    entry = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
        "USER": USER,
        "PASSWORD": PASSWORD,
        "HOST": "127.0.0.1",
        "PORT": server.port,
        "OPTIONS": {"sslmode": "require", "pool": True},
    }
    assert await outcome(entry) == ""
    assert await outcome({**entry, "NAME": "nowhere"}) == "UnknownDatabase"
    with pytest.raises(ValueError, match="ENGINE is not one of PostgreSQL"):
        postgres({**entry, "ENGINE": "django.db.backends.sqlite3"})


async def test_a_busy_pool_is_no_outage_and_a_stuck_one_is_no_outage_of_the_database(
    server: PostgresProcess,
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy")
    pytest.importorskip("psycopg", reason="needs psycopg")
    url = f"postgresql+psycopg://{USER}:{quote(PASSWORD)}@127.0.0.1:{server.port}/postgres"
    engine = sqlalchemy.create_engine(url, pool_size=1, max_overflow=1)
    try:
        async with asking(engine, pool_stuck_seconds=0.2) as probe:
            first, second = engine.connect(), engine.connect()
            assert await attempt(probe) is None
            for _ in range(3):  # busy: one comes back, and is taken again
                await anyio.sleep(0.1)
                second.close()
                second = engine.connect()
                assert await attempt(probe) is None
            await anyio.sleep(0.3)
            failure = await attempt(probe)
            assert failure is not None
            assert failure.error_type == "PoolStuck"
            assert "the database itself answers" in failure.reason
            first.close()
            second.close()
            assert await attempt(probe) is None
    finally:
        engine.dispose()


async def test_pools_of_psycopg_and_asyncpg_are_not_borrowed_from(server: PostgresProcess) -> None:
    pools = pytest.importorskip("psycopg_pool", reason="needs psycopg_pool")
    given = {"password": PASSWORD, "autocommit": True}
    dsn = server.dsn(password="")
    with pools.ConnectionPool(dsn, kwargs=given, min_size=1, max_size=1, open=True) as pool:
        async with asking(pool, pool_stuck_seconds=0.1) as probe:
            with pool.connection(timeout=20):
                assert await attempt(probe) is None
                await anyio.sleep(0.2)
                assert await attempt(probe) is None  # nobody waits for it
            assert pool.get_stats().get("requests_num") == 1
    assert await outcome(pool) == "PoolClosed"
    assert await outcome(pools.ConnectionPool(server.dsn, open=False)) == "PoolClosed"


def test_dsns_are_read_as_libpq_reads_them() -> None:
    conninfo = pytest.importorskip("psycopg.conninfo", reason="needs psycopg")
    for dsn in (
        "",
        "host = a  port=1 password='it\\'s \\\\' dbname='' user=o'neill",
        "postgresql://u:p%40%2F:q@h,[::1]:1,k:2/d%20x?sslmode=require&application_name=a+b",
        "postgres://u:p?#q@/?host=%2Frun%2Fpg&port=7&",
        "postgresql://%2Frun%2Fpg/d?user=z&password=%20q&ssl=true",
        "postgresql://%2Frun%2Fpg:6432,k/d?user=z",
        "postgresql://u@h:/a/b\n",
        "postgresql://?options=-c%20geqo%3Doff&target_session_attrs=any",
    ):
        assert options_of_dsn(dsn) == conninfo.conninfo_to_dict(dsn), dsn


# -- what cannot be asked --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dsn",
    [
        "hunter2",
        "postgresql://u:hunter2@x@h/d",
        "postgresql://u:hunter2@h:port/d",
        "postgresql://u:hunter2@h/d?hunter2",
        "postgresql://u:hunter2@h/d?sslmode=hunter2",
        "postgresql://u@h1,h2:1,h3/d?port=1,2",
        "host=x password=hunter2 sslmod=require",
        "host=x password='hunter2",
        "host=x port=70000",
        "host=a,b hostaddr=127.0.0.1",
        "host=x sslrootcert=system sslmode=require",
        "service=hunter2",
        "host=x gssencmode=require",
        "host=x\0",
    ],
)
def test_a_dsn_that_cannot_be_used_is_refused_without_being_shown(dsn: str) -> None:
    with pytest.raises(ValueError, match="DSN") as refused:
        postgres(dsn)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_what_is_no_source_is_refused_by_its_type() -> None:
    for source in (None, 3, b"postgresql://h/d", call(lambda: True)):
        with pytest.raises(TypeError, match="source must be a DSN, a pool or an SQLAlchemy engine"):
            postgres(source)
    for options in ({"password": "hunter2"}, {"pool_stuck_seconds": "1"}):
        with pytest.raises(TypeError) as refused:
            postgres("host=x", **options)  # type: ignore[arg-type]  # as a user may
        assert "hunter2" not in str(refused.value)
    with pytest.raises(ValueError, match="above 0"):
        postgres("host=x", pool_stuck_seconds=0)


# Last: nothing is there afterwards.


async def test_a_killed_server_is_noticed_at_once_and_comes_back(server: PostgresProcess) -> None:
    async with asking(server.dsn()) as probe:
        assert await attempt(probe) is None
        os.kill(server.pid, signal.SIGTERM)  # it waits for those who are connected
        with anyio.fail_after(20):
            while (said := await outcome(server.dsn())) == "":
                await anyio.sleep(0.01)
        assert said == "CannotConnectNow"
        assert await attempt(probe) is None
        server.kill()
        try:
            with anyio.fail_after(20):
                await probe.changed()
            failure = await attempt(probe)
        finally:
            server.start()
        assert failure is not None
        assert failure.error_type == "ConnectionRefusedError"
        assert failure.kind is FailureKind.TRANSIENT
        assert await attempt(probe) is None
