"""`orchestrator.auto` on real servers, beside the same servers without it."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.redis_server import RedisServer, free_port

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 60.0

CHAT = """
import contextlib, os, pathlib, time

pathlib.Path("importing").touch()
while not pathlib.Path("go").exists():  # another process makes it
    time.sleep(0.01)
if pathlib.Path("broken").exists():
    raise ValueError("no disk")

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

@contextlib.asynccontextmanager
async def lifespan(app):
    if pathlib.Path("no-lifespan").exists():
        raise RuntimeError("no pool")
    yield {"pool": os.getpid()}

async def home(request):
    return JSONResponse({"pool": request.state.pool})

app = Starlette(routes=[Route("/", home)], lifespan=lifespan)
"""


class Service:
    """A server in a process of its own, which is ended whatever happens."""

    def __init__(
        self, directory: Path, application: str, environ: dict[str, str], *options: str
    ) -> None:
        self.port = free_port()
        self.log = directory / f"{application.partition(':')[0]}.log"
        command = [sys.executable, "-m", "uvicorn", application, "--port", str(self.port)]
        command += options
        paths = os.pathsep.join([str(directory), str(ROOT)])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": paths, **environ},
                start_new_session=True,
            )

    def get(self, path: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        with httpx.Client(trust_env=False, timeout=LIMIT_SECONDS) as client:
            return client.get(url)

    def until_live(self) -> None:
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            try:
                assert self.get("/livez").status_code == 200
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text(errors="replace")
                assert time.monotonic() < deadline

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # with the workers, if there are any
        self.process.wait()


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def environ(redis: RedisServer) -> dict[str, str]:
    return {"ORCHESTRATOR_APP": "slow_chat:app", "REDIS_URL": redis.url}


def test_the_port_is_open_before_the_application_is_imported(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "slow_chat.py").write_text(CHAT)
    service = Service(tmp_path, "orchestrator.auto:app", environ)
    try:
        service.until_live()
        deadline = time.monotonic() + LIMIT_SECONDS
        while not (tmp_path / "importing").exists():
            assert time.monotonic() < deadline
        answer = service.get("/startupz")
        assert answer.status_code == 503
        assert "importing slow_chat, " in answer.json()["output"]
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(service.get, "/")
            (tmp_path / "go").touch()
            assert held.result(LIMIT_SECONDS).json() == {"pool": service.process.pid}
        assert service.get("/startupz").json()["status"] == "pass"
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(LIMIT_SECONDS) == -signal.SIGTERM
        assert "Traceback" not in service.log.read_text()
    finally:
        service.end()


@pytest.mark.parametrize("fault", ["broken", "no-lifespan"])
def test_what_cannot_be_loaded_ends_the_server_as_it_would_without_a_gate(
    fault: str, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "slow_chat.py").write_text(CHAT)
    for name in (fault, "go"):
        (tmp_path / name).touch()
    seen = {}
    services = [Service(tmp_path, of, environ) for of in ("orchestrator.auto:app", "slow_chat:app")]
    try:
        for service in services:
            status = service.process.wait(LIMIT_SECONDS)
            log = service.log.read_text(errors="replace")
            errors = log.count("ValueError: no disk"), log.count("RuntimeError: no pool")
            seen[service.log.name] = status, log.count("Traceback"), errors
    finally:
        for service in services:
            service.end()
    assert len(seen) == 2
    assert len(set(seen.values())) == 1, seen


def test_a_signal_during_the_import_ends_the_server_at_once(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "slow_chat.py").write_text(CHAT)
    service = Service(tmp_path, "orchestrator.auto:app", environ)
    try:
        service.until_live()
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(LIMIT_SECONDS) == -signal.SIGTERM
    finally:
        service.end()


GREEDY = """
import ctypes, os, pathlib

with pathlib.Path("imports").open("a") as file:
    file.write(f"{os.getpid()}\\n")
ctypes.PyDLL(None).sleep(7)  # as some extensions do, it keeps the interpreter to itself

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})
"""


@pytest.mark.long
@pytest.mark.parametrize("seconds", [2, 60])
def test_an_import_that_keeps_the_interpreter_needs_a_patient_supervisor(
    seconds: int, environ: dict[str, str], tmp_path: Path
) -> None:
    """uvicorn's supervisor kills a worker that does not answer it for 5 s, here for 2."""
    (tmp_path / "slow_chat.py").write_text(GREEDY)
    imports = tmp_path / "imports"
    options = ["--workers", "2", "--timeout-worker-healthcheck", str(seconds)]
    service = Service(tmp_path, "orchestrator.auto:app", environ, *options)
    try:
        if seconds == 60:
            service.until_live()
            assert service.get("/").text == "served"
            assert len(set(imports.read_text().split())) <= 2, "none was killed"
        else:
            deadline = time.monotonic() + LIMIT_SECONDS
            while not imports.exists() or len(set(imports.read_text().split())) < 4:
                assert time.monotonic() < deadline, service.log.read_text()
                time.sleep(0.1)
    finally:
        service.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.process.wait(20)
        service.end()
