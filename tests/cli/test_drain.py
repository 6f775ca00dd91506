"""`drain` as a pre-stop hook, and SIGTERM, on real servers: one drain on one clock."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import httpx
import psutil
import pytest
import websockets

from orchestrator._runtime.drain_signal import DRAIN_SIGNAL
from orchestrator.cli import main
from tests.cli.cli_support import PATIENCE_SECONDS, ROOT, environment, kill_all, words
from tests.redis_server import free_port

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(DRAIN_SIGNAL is None, reason="needs the signals of Linux"),
]

SOCKETS, RUNNING = 20, 5

SERVICE = """
    import anyio
    from orchestrator import Orchestrator, Policy
    from orchestrator.asgi import ReadinessGate
    from orchestrator.testing import ScriptedProbe

    async def service(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("the gate has one")
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            try:
                while (await receive())["type"] != "websocket.disconnect":
                    pass
            finally:
                await send({"type": "websocket.close"})  # as many handlers do
            return
        if scope["path"] == "/work":
            await anyio.sleep(1.0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    times = Policy(
        grace_seconds=0.0,
        drain_announce_seconds=0.5,
        drain_close_seconds=0.5,
        drain_limit_seconds=20.0,
    )
    startup = Orchestrator(ScriptedProbe(), policy=times)
    app = ReadinessGate(service, startup, manage_lifespan=True, health=True)
"""

UVICORN = ("uvicorn", "--port", "{port}", "--log-level", "warning")
GUNICORN = (
    *("gunicorn", "-b", "127.0.0.1:{port}", "--no-control-socket", "--log-level", "warning"),
    *("-k", "uvicorn_worker.UvicornWorker", "-w", "2"),
)
RUN = ("orchestrator", "run", "--port", "0", "--host", "127.0.0.1", "--", sys.executable, "-m")
GRANIAN = ("granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the clients run on nothing else


class Service:
    """A server in a process of its own, its clients, and how they ended."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.url = f"127.0.0.1:{port}"
        self.closes: Counter[int] = Counter()
        self.answers: Counter[int | str] = Counter()
        self.clients: list[asyncio.Task[None]] = []

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_SECONDS) as client:
            return await client.get(f"http://{self.url}{path}")

    async def until_ready(self) -> None:
        limit = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < limit:
            with contextlib.suppress(httpx.TransportError):
                if (await self.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.02)
        pytest.fail("the service does not come up")

    async def fill(self) -> None:
        """Open WebSockets, and begin requests."""
        opened = [asyncio.Event() for _ in range(SOCKETS)]
        self.clients += [asyncio.create_task(self._stay(one)) for one in opened]
        await asyncio.gather(*(one.wait() for one in opened))
        self.clients += [asyncio.create_task(self._work()) for _ in range(RUNNING)]
        await asyncio.sleep(0.2)

    async def _stay(self, opened: asyncio.Event) -> None:
        url = f"ws://{self.url}/"
        async with websockets.connect(url, proxy=None, open_timeout=PATIENCE_SECONDS) as client:
            opened.set()
            try:
                await client.recv()
            except websockets.ConnectionClosed as error:
                self.closes[error.rcvd.code if error.rcvd else 1006] += 1

    async def _work(self) -> None:
        try:
            self.answers[(await self.get("/work")).status_code] += 1
        except httpx.TransportError as error:
            self.answers[type(error).__name__] += 1

    async def end(self) -> float:
        """Wait until all of it has ended; the seconds that it took."""
        began_at = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*self.clients)
            await asyncio.to_thread(self.process.wait)
        assert self.closes == {1012: SOCKETS}
        assert self.answers == {200: RUNNING}
        return time.monotonic() - began_at


@asynccontextmanager
async def a_service(directory: Path, command: tuple[str, ...]) -> AsyncGenerator[Service]:
    (directory / "drained.py").write_text(textwrap.dedent(SERVICE))
    port = free_port()
    module, *options = [one.format(port=port) for one in command]
    log = (directory / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", module, *options, "drained:app"],
        cwd=directory,
        env=environment(
            PYTHONPATH=f"{directory}{os.pathsep}{ROOT}",
            ORCHESTRATOR_ENABLED="false",  # for `run`, which has no Redis here
        ),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    service = Service(process, port)
    try:
        await service.until_ready()
        await service.fill()
        yield service
        written = (directory / "log").read_text(errors="replace")
        assert "Traceback" not in written, written
        assert " ERROR" not in written, written
    finally:
        for client in service.clients:
            client.cancel()
        kill_all(process.pid)
        process.wait()
        log.close()


@pytest.mark.parametrize("loop", ["uvloop", pytest.param("asyncio", marks=pytest.mark.long)])
async def test_a_stop_that_arrives_as_several_signals_drains_once(
    tmp_path: Path, loop: str
) -> None:
    pytest.importorskip(loop, reason=f"needs {loop}")
    async with a_service(tmp_path, (*UVICORN, "--loop", loop)) as service:
        os.killpg(service.process.pid, signal.SIGTERM)
        await asyncio.sleep(0.02)
        service.process.send_signal(signal.SIGTERM)
        # At once: on a busy machine one after the other may take longer than is announced.
        readyz, page = await asyncio.gather(service.get("/readyz"), service.get("/"))
        assert (readyz.status_code, readyz.headers["connection"]) == (503, "close")
        assert (page.status_code, page.headers["connection"]) == (200, "close")
        await service.end()
        assert service.process.returncode == -signal.SIGTERM


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    "command",
    [(*UVICORN, "--workers", "2"), GUNICORN, (*RUN, *UVICORN)],
    ids=["uvicorn --workers", "gunicorn", "run -- uvicorn"],
)
async def test_a_group_that_is_stopped_drains_once_though_its_supervisor_signals_again(
    tmp_path: Path, command: tuple[str, ...], number: signal.Signals
) -> None:
    """As systemd, Heroku and a terminal do it."""
    async with a_service(tmp_path, command) as service:
        os.killpg(service.process.pid, number)
        await asyncio.sleep(0.02)
        service.process.send_signal(number)
        await service.end()


@pytest.mark.long
async def test_old_workers_of_a_reload_drain_once_though_they_are_signalled_again(
    tmp_path: Path,
) -> None:
    async with a_service(tmp_path, GUNICORN) as service:
        old = psutil.Process(service.process.pid).children()
        service.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(1.0)
        for worker in old:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*service.clients)
        await service.until_ready()
        service.process.terminate()
        await service.end()


@pytest.mark.parametrize(
    ("command", "when"),
    [
        (UVICORN, "at once"),
        (UVICORN, "meanwhile"),
        pytest.param(
            GRANIAN,
            "after",
            marks=pytest.mark.skipif(find_spec("granian") is None, reason="needs granian"),
        ),
    ],
)
async def test_the_hook_and_the_signal_are_one_drain(
    tmp_path: Path, command: tuple[str, ...], when: str
) -> None:
    """Afterwards, on a server that does not let the signal be held back."""
    async with a_service(tmp_path, command) as service:
        hook = await asyncio.create_subprocess_exec(
            *words("drain", "--pid", str(service.process.pid)), cwd=ROOT, env=environment()
        )
        if when == "meanwhile":
            while (await service.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.02)
        elif when == "after":
            assert await asyncio.wait_for(hook.wait(), PATIENCE_SECONDS) == 0
        service.process.terminate()
        await service.end()
        status = await asyncio.wait_for(hook.wait(), PATIENCE_SECONDS)
        # Where the hook is so late that the service has ended, there is nothing to drain any more.
        assert status == 0 or when == "at once"


WORKER = """
    import anyio
    from orchestrator import Orchestrator, Policy, Stage
    from orchestrator.health import serve_health
    from orchestrator.testing import ScriptedProbe

    startup = Orchestrator(ScriptedProbe(), policy=Policy(grace_seconds=0.0))

    @startup.on_drain
    def hand_back():
        print("handed back", flush=True)
"""
ON_A_LOOP = """
    async def work():
        async with startup, serve_health(startup, 0, host="127.0.0.1") as server:
            await startup.wait_for(Stage.READY)
            print(server.port, flush=True)
            await anyio.sleep_forever()

    anyio.run(work)
"""
IN_A_THREAD = """
    import signal
    with startup.run_in_thread(), serve_health(startup, 0, host="127.0.0.1") as server:
        startup.wait_for_sync(Stage.READY)
        print(server.port, flush=True)
        while True:
            signal.pause()
"""


HTTP2 = (
    ("hypercorn", "--bind", "127.0.0.1:{port}", "--workers", "0"),
    GRANIAN,
)


@pytest.mark.long
@pytest.mark.parametrize("command", HTTP2, ids=["hypercorn", "granian"])
async def test_over_http2_no_answer_of_a_drain_has_a_field_that_it_forbids(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    pytest.importorskip("h2", reason="needs h2")
    async with a_service(tmp_path, command) as service:
        hook = await asyncio.create_subprocess_exec(
            *words("drain", "--pid", str(service.process.pid)), cwd=ROOT, env=environment()
        )
        answers: list[httpx.Response] = []
        url = f"http://{service.url}/"
        async with httpx.AsyncClient(
            http1=False, http2=True, trust_env=False, timeout=PATIENCE_SECONDS
        ) as client:
            while not answers or answers[-1].status_code == 200:
                answers.append(await client.get(url))
                await asyncio.sleep(0.01)
        assert await asyncio.wait_for(hook.wait(), PATIENCE_SECONDS) == 0
        assert [one.status_code for one in answers] == [200] * (len(answers) - 1) + [503]
        assert all(one.http_version == "HTTP/2" for one in answers)
        assert not any("connection" in one.headers for one in answers)
        assert "retry-after" in answers[-1].headers
        service.process.terminate()
        await service.end()


@pytest.mark.parametrize("work", [ON_A_LOOP, IN_A_THREAD], ids=["on a loop", "in a thread"])
def test_the_hook_drains_a_process_that_has_no_server_but_that_of_its_health(work: str) -> None:
    program = textwrap.dedent(WORKER) + textwrap.dedent(work)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            url = f"http://127.0.0.1:{int(process.stdout.readline())}/"
            assert httpx.get(f"{url}readyz", trust_env=False).status_code == 200
            assert main(["drain", "--pid", str(process.pid)]) == 0
            assert process.stdout.readline() == "handed back\n"
            for path, status in {"readyz": 503, "livez": 200, "startupz": 200}.items():
                assert httpx.get(f"{url}{path}", trust_env=False).status_code == status
            assert process.poll() is None, "it works on until SIGTERM"
        finally:
            process.kill()


def test_what_cannot_be_drained_is_said_and_not_ended(capsys: pytest.CaptureFixture[str]) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert main(["drain", "--pid", str(sleeper.pid)]) == 1
        assert f"neither process {sleeper.pid} nor one below it can be drained" in (
            capsys.readouterr().err
        )
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
