"""The application's own driver, psycopg, on a server that goes silent; and a pool under load.

psycopg swallows cancellation there: it first asks the server to cancel the query, and waits for
that. So a check or a task that uses it cannot be stopped, and must hold up nobody.
"""

import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import quote

import anyio
import pytest

from orchestrator import Check, Orchestrator, Policy, Stage, Task
from orchestrator.checks import call, postgres
from orchestrator.testing import ScriptedProbe
from tests.asgi.gate_support import until
from tests.checks.stalling_proxy import StallingProxy
from tests.postgres_server import PASSWORD, USER, PostgresProcess, find_postgres

psycopg = pytest.importorskip("psycopg", reason="needs psycopg")

on_asyncio_and_uvloop = pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.long,
    pytest.mark.skipif(find_postgres() is None, reason="needs PostgreSQL (initdb)"),
    pytest.mark.skipif(sys.platform != "linux", reason="psycopg's loop and uvloop are as on Linux"),
]

PATIENCE_SECONDS = 60.0
AT_ONCE = Policy(grace_seconds=0.01)


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresProcess]:
    with PostgresProcess() as server:
        yield server


class Queries:
    """Queries of the application's, on one connection that it keeps."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: Any = None  # of a package that may not be installed
        self.running = self.most = self.answered = 0

    async def ask(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self._connection is None or self._connection.closed:
                self._connection = await psycopg.AsyncConnection.connect(self._dsn)
            await self._connection.execute("SELECT 1")
            await self._connection.rollback()
            self.answered += 1
        finally:
            self.running -= 1

    async def ask_for_ever(self) -> None:
        while True:
            await self.ask()
            await anyio.sleep(0.02)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


@contextmanager
def stopped(server: PostgresProcess) -> Iterator[None]:
    """Every process of the server is stopped, as on a host that is frozen."""
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


@contextmanager
def stalled(proxy: StallingProxy) -> Iterator[None]:
    """The proxy keeps its sockets open, and passes nothing on."""
    proxy.stall()
    try:
        yield
    finally:
        proxy.resume()


@on_asyncio_and_uvloop
@pytest.mark.parametrize("silence", ["stalled", "stopped"])
async def test_a_check_that_asks_with_psycopg_falls_in_time_and_comes_back(
    silence: str, database: PostgresProcess
) -> None:
    with StallingProxy(database.port) as proxy:
        queries = Queries(database.dsn(port=str(proxy.port)))
        check = Check("database", call(queries.ask), timeout_seconds=0.5, interval_seconds=0.2)
        startup = Orchestrator(ScriptedProbe("ok"), policy=AT_ONCE, conditions=[check])
        async with startup:
            await startup.wait_for(Stage.READY, timeout_seconds=PATIENCE_SECONDS)
            with stalled(proxy) if silence == "stalled" else stopped(database):
                began_at = time.monotonic()
                await startup.wait_for(Stage.DEGRADED, timeout_seconds=PATIENCE_SECONDS)
                assert time.monotonic() - began_at < 10  # 2.2 s on an idle machine
                began_at, cpu = time.monotonic(), time.thread_time()
                await anyio.sleep(1)
                cost, lasted = time.thread_time() - cpu, time.monotonic() - began_at
                assert cost < 0.25 * lasted  # cancelling again and again takes all of it
                assert queries.most == 1
            await startup.wait_for(Stage.READY, timeout_seconds=PATIENCE_SECONDS)
        await queries.close()


@on_asyncio_and_uvloop
async def test_a_task_and_a_check_in_psycopg_hold_up_no_exit(
    database: PostgresProcess, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    def healthy(name: str) -> Callable[[], Awaitable[None]]:
        async def work() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(name)

        return work

    with StallingProxy(database.port) as proxy:
        dsn = database.dsn(port=str(proxy.port))
        asked, worked = Queries(dsn), Queries(dsn)
        names = [f"healthy {number}" for number in range(10)]
        startup = Orchestrator(
            ScriptedProbe("ok"),
            policy=AT_ONCE,
            conditions=[
                *(Task(name, healthy(name), after=names[:n]) for n, name in enumerate(names)),
                Task("worker", worked.ask_for_ever, stop_seconds=0.5),
                Check("database", call(asked.ask), timeout_seconds=30, interval_seconds=0.02),
            ],
        )
        await startup.start()
        await startup.wait_for(Stage.READY, timeout_seconds=PATIENCE_SECONDS)
        await until(lambda: min(asked.answered, worked.answered) > 0)  # connects end at once
        with stalled(proxy):
            await until(lambda: proxy.held == 2)  # both are in their queries, and not between two
            began_at, cpu = time.monotonic(), time.thread_time()
            with anyio.fail_after(PATIENCE_SECONDS):
                await startup.aclose()
            cost, lasted = time.thread_time() - cpu, time.monotonic() - began_at
            assert ended == names[::-1]
            assert cost < 0.25 * lasted
            # It is left behind, and ends whenever psycopg gives its own cancellation up.
            assert "task worker did not end within 0.5 s" in caplog.text
        await until(lambda: asked.running == worked.running == 0)
        await asked.close()
        await worked.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_pool_that_is_busy_for_a_minute_is_no_outage_and_hides_none() -> None:
    """Five connections, ten threads that want one, for longer than a pool may be stuck."""
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy")
    done, failures = threading.Event(), 0
    with PostgresProcess() as server, ExitStack() as stack:
        url = f"postgresql+psycopg://{USER}:{quote(PASSWORD)}@127.0.0.1:{server.port}/postgres"
        engine = sqlalchemy.create_engine(url, pool_size=5, max_overflow=0, pool_timeout=120)
        stack.callback(engine.dispose)
        connects: list[int] = []
        sqlalchemy.event.listen(engine, "connect", lambda *_: connects.append(1))

        def work() -> None:
            nonlocal failures
            while not done.is_set():
                try:
                    with engine.connect() as connection:
                        connection.execute(sqlalchemy.text("SELECT pg_sleep(0.05)"))
                except sqlalchemy.exc.SQLAlchemyError:
                    failures += 1
                    done.wait(0.1)

        threads = [threading.Thread(target=work) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            stack.callback(thread.join)
        stack.callback(done.set)
        check = Check("database", postgres(engine), timeout_seconds=5, interval_seconds=0.5)
        startup = Orchestrator(ScriptedProbe("ok"), policy=AT_ONCE, conditions=[check])
        async with startup:
            await startup.wait_for(Stage.READY, timeout_seconds=PATIENCE_SECONDS)
            with anyio.move_on_after(60) as minute:
                await startup.wait_for(Stage.DEGRADED)
            assert minute.cancelled_caught, startup.explain()
            assert (len(connects), failures) == (5, 0)
            server.kill()
            await startup.wait_for(Stage.DEGRADED, timeout_seconds=PATIENCE_SECONDS)
            assert "refused" in startup.explain().conditions["database"].reason
