"""The WSGI gate drains, under real workers of gunicorn, and in threads as PEP 3333 has them."""

import contextlib
import http.client
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import anyio
import pytest

from orchestrator import Orchestrator, Policy
from orchestrator._runtime.drain_signal import DRAIN_SIGNAL
from orchestrator.testing import ScriptedProbe
from orchestrator.wsgi import ReadinessGate
from tests.redis_server import free_port
from tests.wsgi.test_wsgi_servers import PATIENCE_SECONDS, ROOT, ask, gunicorn, until

pytestmark = pytest.mark.skipif(DRAIN_SIGNAL is None, reason="needs the signals of Linux")

real = pytest.mark.long  # with processes of gunicorn


class Draining:
    """gunicorn, and requests that run until they are let go."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
        self.process, self.port, self._folder = process, port, folder
        self.answers: list[tuple[int, str]] = []
        self._threads: list[threading.Thread] = []
        self._names: list[str] = []

    def begin(self, path: str) -> None:
        name = path.rpartition("/")[2]
        thread = threading.Thread(target=lambda: self.answers.append(ask(self.port, path)))
        thread.start()
        self._threads.append(thread)
        self._names.append(name)
        limit = time.monotonic() + PATIENCE_SECONDS
        while not (self._folder / name).exists():
            assert time.monotonic() < limit
            time.sleep(0.01)

    def let_go(self) -> None:
        for name in self._names:
            (self._folder / name).unlink(missing_ok=True)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)


@contextmanager
def draining(options: list[str], folder: Path, seconds: float) -> Iterator[Draining]:
    port, go = free_port(), folder / "go"
    go.touch()
    environ = {**os.environ, "GO_FILE": str(go), "ANNOUNCE_SECONDS": str(seconds)}
    command = [word.replace("PORT", str(port)) for word in gunicorn(*options)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True
        )
    served = Draining(process, port, folder)
    try:
        until(port, "/readyz", 200)
        yield served
        assert "Traceback" not in (folder / "log").read_text()
    finally:
        served.let_go()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@real
@pytest.mark.parametrize("options", [["--threads", "8"], ["--threads", "8", "--preload"]])
def test_threads_of_gunicorn_serve_on_then_refuse_and_end_what_runs(
    options: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("gunicorn", reason="needs gunicorn")
    with draining(options, tmp_path, 2.0) as served:
        served.begin("/slow/one")
        served.begin("/stream/two")
        kept = http.client.HTTPConnection("127.0.0.1", served.port, timeout=PATIENCE_SECONDS)
        kept.request("GET", "/")
        response = kept.getresponse()
        response.read()
        assert response.getheader("Connection") == "keep-alive"
        served.process.terminate()
        until(served.port, "/readyz", 503)
        kept.request("GET", "/")
        response = kept.getresponse()
        assert (response.status, response.getheader("Connection")) == (200, "close")
        until(served.port, "/", 503)
        assert "stopping" in ask(served.port, "/")[1]
        assert served.answers == []
        served.let_go()
        assert sorted(served.answers) == [(200, "begun done")] * 2
        assert served.process.wait(PATIENCE_SECONDS) == 0


@real
def test_a_sync_worker_serves_on_while_its_drain_is_announced(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="needs gunicorn")
    with draining([], tmp_path, 1.0) as served:
        served.process.terminate()
        until(served.port, "/readyz", 503)
        assert ask(served.port, "/")[0] == 200
        assert served.process.wait(PATIENCE_SECONDS) == 0


@real
def test_the_hook_drains_gunicorn_before_the_signal(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="needs gunicorn")
    with draining(["--threads", "8", "--preload"], tmp_path, 0.5) as served:
        served.begin("/stream/one")
        hook = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "drain", "--pid", str(served.process.pid)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until(served.port, "/", 503)
        assert served.process.poll() is None
        served.let_go()
        assert served.answers == [(200, "begun done")]
        said, _ = hook.communicate(timeout=PATIENCE_SECONDS)
        assert (hook.returncode, said.strip().rpartition(" ")[2]) == (0, "2"), said


# -- in threads of this process --------------------------------------------------------------------


class Response:
    """gunicorn's, as far as the gate knows it."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: dict[str, str] = {}
        self.closes = False

    def start_response(self, status: str, headers: list[tuple[str, str]], *_: object) -> object:
        self.status, self.headers = status, dict(headers)
        return lambda _: None

    def force_close(self) -> None:
        self.closes = True


def streaming(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/broken":
        raise ValueError("of the application")
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/file":
        return environ["wsgi.file_wrapper"](io.BytesIO(b"file"))  # type: ignore[no-any-return]  # the server's own
    return (part for part in (b"begun", b"done"))


@pytest.fixture
def gate() -> Iterator[ReadinessGate]:
    times = Policy(
        grace_seconds=0.0,
        drain_announce_seconds=0.0,
        drain_close_seconds=0.0,
        drain_limit_seconds=PATIENCE_SECONDS,
    )
    startup = Orchestrator(ScriptedProbe(), policy=times, conditions=["go"])
    gate = ReadinessGate(streaming, startup, health=True, hold_seconds=PATIENCE_SECONDS)
    gate.start()
    yield gate
    gate.close()


def call(gate: ReadinessGate, path: str = "/") -> tuple[Response, Iterable[bytes]]:
    response = Response()
    environ = {
        "PATH_INFO": path,
        "REQUEST_METHOD": "GET",
        "wsgi.multithread": True,
        "wsgi.file_wrapper": FileWrapper,
    }
    return response, gate(environ, response.start_response)


def held_until(holds: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_a_drain_waits_for_what_is_still_sent_and_refuses_what_is_new(gate: ReadinessGate) -> None:
    startup = gate._startup
    startup.condition("go").set(True)
    held_until(lambda: startup.ready)
    with pytest.raises(ValueError, match="of the application"):
        call(gate, "/broken")
    running, body = call(gate)
    assert not running.closes
    _, file = call(gate, "/file")
    assert isinstance(file, FileWrapper), "the server knows what it can send by itself"
    # The command's signal: the orchestrator runs in a thread, and only the main one has handlers.
    os.kill(os.getpid(), DRAIN_SIGNAL or 0)
    held_until(lambda: startup.refuses)
    refused, why = call(gate)
    assert (refused.status[:3], refused.headers["Retry-After"] in "123") == ("503", True)
    assert refused.closes, "the server closes the connection"
    assert b"stopping" in b"".join(why)
    assert call(gate, "/readyz")[0].status.startswith("503")
    assert call(gate, "/livez")[0].status.startswith("200")
    assert "under way: 1" in startup.explain().draining
    assert b"".join(body) == b"begundone"
    assert "under way: 1" in startup.explain().draining, "the server has not sent all of it yet"
    body.close()  # type: ignore[attr-defined]  # as PEP 3333 has it
    held_until(lambda: "it is over" in startup.explain().draining)
    held_until(lambda: signal.getsignal(DRAIN_SIGNAL or 0) is signal.SIG_IGN)


def test_those_who_are_held_are_refused_as_the_drain_begins(gate: ReadinessGate) -> None:
    answers: list[Response] = []
    thread = threading.Thread(target=lambda: answers.append(call(gate)[0]))
    thread.start()
    held_until(lambda: gate.held == 1)
    anyio.run(gate._startup.drain)
    thread.join(PATIENCE_SECONDS)
    assert answers[0].status.startswith("503")
    assert (answers[0].closes, gate.counts.refused) == (True, 1)


def test_a_signal_is_held_back_until_the_thread_has_drained(gate: ReadinessGate) -> None:
    heard: list[int] = []
    startup = gate._startup
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        startup.condition("go").set(True)
        held_until(lambda: startup.ready)
        _, body = call(gate)  # as a request does it, in the main thread or another
        os.kill(os.getpid(), signal.SIGTERM)
        held_until(lambda: startup.refuses)
        assert heard == []
        body.close()  # type: ignore[attr-defined]  # as PEP 3333 has it
        held_until(lambda: heard == [signal.SIGTERM])
    finally:
        gate.close()
        signal.signal(signal.SIGTERM, before)
