"""The WSGI gate under real servers that fork, and the examples with a real Redis."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, free_port

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
APPLICATION = "tests.wsgi.workers_wsgi:application"


def ask(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:  # it does not listen yet
            return 0, ""


def until(port: int, path: str, status: int) -> str:
    limit = time.monotonic() + PATIENCE_SECONDS
    while (answer := ask(port, path))[0] != status:
        assert time.monotonic() < limit, answer
        time.sleep(0.05)
    return answer[1]


@contextmanager
def serving(
    command: list[str], stop: int, tmp_path: Path, **environ: str
) -> Iterator[tuple[int, Path]]:
    port, go = free_port(), tmp_path / "go"
    go.unlink(missing_ok=True)
    # Not the whole path: uWSGI brings a Python with a standard library of its own.
    path = os.pathsep.join([str(ROOT), *(one for one in sys.path if one.endswith("-packages"))])
    environ = {**os.environ, "GO_FILE": str(go), "PYTHONPATH": path, **environ}
    command = [word.replace("PORT", str(port)) for word in command]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            until(port, "/livez", 200)
            yield port, go
        finally:
            for _ in range(12):  # a worker of uWSGI that is being started does not hear it
                process.send_signal(stop)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                    break
            else:
                os.killpg(process.pid, signal.SIGKILL)  # nothing waits for it for ever
                pytest.fail("the server did not end")


def gunicorn(*options: str) -> list[str]:
    command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "-w", "2", "--log-level", "error"]
    return [*command, "-b", "127.0.0.1:PORT", "--no-control-socket", *options, APPLICATION]


def test_every_worker_of_a_preloaded_application_begins_anew(tmp_path: Path) -> None:
    """Threads of the parent do not live in its forks, and its stage is nobody's."""
    pytest.importorskip("gunicorn", reason="needs gunicorn")
    command = gunicorn("--preload", "--threads", "4")
    with serving(command, signal.SIGTERM, tmp_path, THREAD_IN_PARENT="1") as (port, go):
        held: list[tuple[int, str]] = []
        client = threading.Thread(target=lambda: held.append(ask(port, "/")))
        client.start()
        assert ask(port, "/readyz")[0] == 503, "another thread answers while one holds a client"
        go.touch()
        client.join(PATIENCE_SECONDS)
        assert [status for status, _ in held] == [200]
        pod = json.loads(until(port, "/readyz", 200))["pod"]
        assert (pod["expected"], pod["ready"]) == (2, 2), "each has begun, asked or not"
        pids = {str(one["pid"]) for one in pod["workers"]}
        assert {ask(port, "/")[1] for _ in range(10)} <= pids


def test_a_worker_with_one_thread_holds_nobody(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn", reason="needs gunicorn")
    with serving(gunicorn("--preload"), signal.SIGTERM, tmp_path) as (port, go):
        began = time.monotonic()
        assert ask(port, "/")[0] == 503
        assert time.monotonic() - began < 20  # it may be held for 30
        go.touch()
        until(port, "/readyz", 200)
        until(port, "/", 200)


@pytest.mark.skipif(
    shutil.which("uwsgi") is None or sys.version_info[:2] != (3, 11),
    reason="needs uwsgi-core and uwsgi-plugin-python3 of Debian 12, which are of Python 3.11",
)
def test_a_uwsgi_without_threads_is_told_what_it_lacks_and_one_with_them_serves(
    tmp_path: Path,
) -> None:
    base = ["uwsgi", "--plugin", "python3", "--module", APPLICATION, "--master", "--need-app"]
    base += ["--http-socket", "127.0.0.1:PORT", "--processes", "2"]
    with serving(base, signal.SIGINT, tmp_path) as (port, _):
        status, body = ask(port, "/")
        assert (status, "--enable-threads" in body) == (503, True)
        assert ask(port, "/readyz")[0] == 503
        assert (tmp_path / "log").read_text().count("every request will be refused") == 1
    with serving([*base, "--threads", "2"], signal.SIGINT, tmp_path) as (port, go):
        go.touch()
        until(port, "/readyz", 200)
        until(port, "/", 200)
        assert "every request will be refused" not in (tmp_path / "log").read_text()


# -- the examples ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "needs"), [("flask_app", "flask"), ("django_wsgi_app", "django")])
def test_the_examples_serve_once_redis_answers(name: str, needs: str) -> None:
    pytest.importorskip(needs, reason=f"needs {needs}")
    server = RedisServer()
    program = f"""
import runpy, sys, threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
class Threaded(ThreadingMixIn, WSGIServer): daemon_threads = True
class Quiet(WSGIRequestHandler):
    def log_message(self, *_): pass
sys.path.insert(0, "docs/examples")
module = __import__("{name}")
app = getattr(module, "app", None) or module.application
with make_server("127.0.0.1", 0, app, Threaded, Quiet) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
"""
    command = [sys.executable, "-c", program]
    environ = {**os.environ, "REDIS_URL": server.url}
    try:
        with subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                assert ask(port, "/readyz")[0] == 503
                server.start()
                assert until(port, "/chat", 200) == "ready"
                assert ask(port, "/readyz")[0] == 200
            finally:
                process.kill()
    finally:
        server.stop()
