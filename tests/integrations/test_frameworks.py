"""The hooks and fixtures of real frameworks, in which entering and leaving are two tasks."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest

from tests.redis_server import RedisServer

pytestmark = pytest.mark.long

ROOT = Path(__file__).parent.parent.parent
SECONDS = 300
"""So long takes a program at most, on a machine that is busy with others."""


def run(
    folder: Path, program: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of a user, in a folder of its own."""
    file = folder / "test_program.py"
    file.write_text(textwrap.dedent(program), encoding="utf-8")
    paths = os.pathsep.join([str(ROOT), str(folder)])
    return subprocess.run(
        [sys.executable, *(arguments or (str(file),))],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": paths, **environment},
    )


def passes(done: subprocess.CompletedProcess[str], said: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr


PYTEST_ASYNCIO = """
    import pytest, pytest_asyncio
    from orchestrator import Orchestrator, Policy, Stage
    from orchestrator.testing import ScriptedProbe

    MODULE = Orchestrator(ScriptedProbe(), policy=Policy())

    @pytest_asyncio.fixture
    async def startup():
        async with Orchestrator(ScriptedProbe(), policy=Policy()) as one:
            yield one

    @pytest_asyncio.fixture
    async def of_module():
        async with MODULE:
            yield MODULE

    @pytest_asyncio.fixture(loop_scope="module", scope="module")
    async def shared():
        one = Orchestrator(ScriptedProbe(), policy=Policy())
        await one.start()
        yield one
        await one.aclose()

    @pytest.mark.parametrize("time", range(3))
    async def test_a_fixture(startup, of_module, time):
        await startup.wait_for(Stage.READY, timeout_seconds=30)
        await of_module.wait_for(Stage.READY, timeout_seconds=30)

    @pytest.mark.asyncio(loop_scope="module")
    @pytest.mark.parametrize("time", range(2))
    async def test_a_shared_fixture(shared, time):
        await shared.wait_for(Stage.READY, timeout_seconds=30)
"""


def test_fixtures_of_pytest_asyncio(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode=auto\nasyncio_default_fixture_loop_scope=function\n"
        "filterwarnings=error\n"
    )
    passes(run(tmp_path, PYTEST_ASYNCIO, "-m", "pytest", "-q"), "5 passed")


PYTEST_AIOHTTP = """
    import pytest_asyncio
    from aiohttp import web
    from orchestrator import Orchestrator, Policy, Stage
    from orchestrator.aiohttp import ReadinessGate
    from orchestrator.testing import ScriptedProbe

    STARTUP = Orchestrator(ScriptedProbe(), policy=Policy())

    async def index(request):
        return web.Response(text=STARTUP.stage)

    def an_app():
        app = web.Application()
        app.router.add_get("/", index)
        ReadinessGate(STARTUP).setup(app)
        return app

    @pytest_asyncio.fixture
    async def client(aiohttp_client):
        return await aiohttp_client(an_app())

    async def test_first(client):
        assert await (await client.get("/")).text() == "ready"

    async def test_second(client):
        assert await (await client.get("/")).text() == "ready"
"""


def test_clients_of_pytest_aiohttp(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nasyncio_mode=auto\nasyncio_default_fixture_loop_scope=function\n"
    )
    passes(run(tmp_path, PYTEST_AIOHTTP, "-m", "pytest", "-q"), "2 passed")


FASTSTREAM = """
    import asyncio, os
    from faststream import FastStream
    from faststream.redis import RedisBroker
    from orchestrator import Orchestrator, Policy, Stage
    from orchestrator.testing import ScriptedProbe

    startup = Orchestrator(ScriptedProbe(), policy=Policy())

    async def main():
        app = FastStream(RedisBroker(os.environ["TEST_REDIS_URL"]))

        @app.on_startup
        async def begin():
            await startup.start()

        @app.after_startup
        async def then():
            await startup.wait_for(Stage.READY, timeout_seconds=30)
            print("ready", flush=True)
            app.exit()

        @app.on_shutdown
        async def end():
            await startup.aclose()
            print("left", not startup.running, flush=True)

        await app.run()

    for _ in range(2):
        asyncio.run(main())
"""


def test_hooks_of_faststream(tmp_path: Path) -> None:
    with RedisServer() as server:
        done = run(tmp_path, FASTSTREAM, TEST_REDIS_URL=server.url)
    passes(done, "ready\nleft True\nready\nleft True\n")


ARQ = """
    import os
    from arq import create_pool
    from arq.connections import RedisSettings
    from arq.worker import Worker
    import asyncio
    from orchestrator import Orchestrator, Policy, Stage
    from orchestrator.redis import RedisProbe

    url = os.environ["TEST_REDIS_URL"]
    startup = Orchestrator(RedisProbe(url), policy=Policy())

    async def begin(ctx):
        await asyncio.wait_for(startup.start(), 30)

    async def end(ctx):
        await startup.aclose()
        print("left", not startup.running, flush=True)

    async def work(ctx):
        await startup.wait_for(Stage.READY, timeout_seconds=30)
        print("worked", startup.stage, flush=True)

    async def main():
        settings = RedisSettings.from_dsn(url)
        pool = await create_pool(settings)
        await pool.enqueue_job("work")
        worker = Worker([work], redis_settings=settings, burst=True, handle_signals=False,
                        on_startup=begin, on_shutdown=end)
        await worker.main()
        await worker.close()
        await pool.aclose()

    for _ in range(2):
        asyncio.run(main())
"""


def test_hooks_of_arq(tmp_path: Path) -> None:
    with RedisServer() as server:
        done = run(tmp_path, ARQ, TEST_REDIS_URL=server.url)
    passes(done, "worked ready\nleft True\nworked ready\nleft True\n")


CELERY = """
    from celery import Celery, signals
    from orchestrator import Orchestrator, Policy, Stage
    from orchestrator.testing import ScriptedProbe

    app = Celery("test_program", broker="memory://", backend="cache+memory://")
    app.conf.worker_hijack_root_logger = False
    startup = Orchestrator(ScriptedProbe(), policy=Policy(), conditions=["worker"])
    running = startup.run_in_thread()

    @signals.worker_process_init.connect
    def begin(**_):
        running.start()
        startup.condition("worker").set(True)
        startup.wait_for_sync(Stage.READY, timeout_seconds=30)
        print("ready in a child", flush=True)

    @signals.worker_process_shutdown.connect
    def end(**_):
        running.close()
        print("left in a child", flush=True)
"""


def test_the_children_of_a_celery_worker(tmp_path: Path) -> None:
    """Each has a thread of its own, from the signal after its fork to that before its end."""
    (tmp_path / "test_program.py").write_text(textwrap.dedent(CELERY), encoding="utf-8")
    command = [sys.executable, "-m", "celery", "-A", "test_program", "worker"]
    command += ["--pool=prefork", "--concurrency=2", "--loglevel=WARNING", "--without-gossip"]
    command += ["--without-mingle", "--without-heartbeat"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=tmp_path
    ) as worker:
        said = until(worker, b"ready in a child", 2)
        worker.terminate()
        said += worker.communicate(timeout=SECONDS)[0]
    assert said.count(b"left in a child") == 2, said.decode()
    assert b"Traceback" not in said, said.decode()


FLASK = """
    from flask import Flask
    from orchestrator import Orchestrator, Policy, Stage
    from orchestrator.testing import ScriptedProbe

    startup = Orchestrator(ScriptedProbe(), policy=Policy(), conditions=["worker"])
    running = startup.run_in_thread()
    app = Flask(__name__)

    @app.get("/")
    def index():
        startup.wait_for_sync(Stage.READY, timeout_seconds=30)
        return f"{startup.stage} after {startup.explain().attempts} attempts"
"""

GUNICORN = """
    bind = "127.0.0.1:0"
    workers = 2
    threads = 2
    preload_app = True

    def post_fork(server, worker):
        from test_program import running, startup
        assert startup.stage == "booting"
        running.start()
        startup.condition("worker").set(True)

    def post_worker_init(worker):
        print("serving", flush=True)

    def worker_exit(server, worker):
        from test_program import running
        running.close()
        print("left in a worker", flush=True)
"""


def test_flask_in_workers_of_gunicorn(tmp_path: Path) -> None:
    (tmp_path / "test_program.py").write_text(textwrap.dedent(FLASK), encoding="utf-8")
    (tmp_path / "settings.py").write_text(textwrap.dedent(GUNICORN), encoding="utf-8")
    command = [sys.executable, "-m", "gunicorn", "-c", "settings.py", "test_program:app"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=tmp_path
    ) as server:
        said = until(server, b"serving", 2)
        found = re.search(rb"Listening at: (http://127.0.0.1:\d+)", said)
        assert found is not None, said.decode()
        for _ in range(8):
            answer = httpx.get(found[1].decode(), timeout=SECONDS)
            assert answer.text.startswith("ready after")
        server.terminate()
        said += server.communicate(timeout=SECONDS)[0]
    assert said.count(b"left in a worker") == 2, said.decode()
    assert b"Traceback" not in said, said.decode()


def until(process: subprocess.Popen[bytes], what: bytes, times: int) -> bytes:
    """What a process says until it has said something so often."""
    assert process.stdout is not None
    said = b""
    while said.count(what) < times and (line := process.stdout.readline()):
        said += line
    return said
