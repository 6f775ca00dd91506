"""Four real workers of gunicorn: every answer is the same, also when one is killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.pod._members import has_locks
from tests.redis_server import free_port

pytest.importorskip("gunicorn", reason="needs gunicorn")
pytest.importorskip("uvicorn_worker", reason="needs uvicorn-worker")
if not has_locks():
    pytest.skip("needs flock", allow_module_level=True)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    options: list[str] = getattr(request, "param", [])
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "gunicorn", "--preload", "-w", "4"]
    command += ["-b", f"127.0.0.1:{port}", "--no-control-socket", "--log-level", "error"]
    command += ["-k", "uvicorn_worker.UvicornWorker", *options, "tests.pod.workers_app:app"]
    environ = {name: os.environ[name] for name in os.environ if not name.startswith("WEB_CONC")}
    with subprocess.Popen(command, cwd=ROOT, env=environ) as process:
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        assert process.wait(30) == 0


def ask(url: str) -> tuple[int, dict[str, Any]]:
    try:
        response = httpx.get(f"{url}/readyz", timeout=20, trust_env=False)
    except httpx.TransportError:
        return 0, {"pod": {"workers": [], "ready": 0}}
    return response.status_code, json.loads(response.content)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def until_ready(url: str, number: int, without: int = 0) -> dict[str, Any]:
    limit = time.monotonic() + 60
    while True:
        status, body = ask(url)
        pids = [one["pid"] for one in body["pod"].get("workers", ())]
        if status == 200 and body["pod"]["ready"] == number and without not in pids:
            return body
        assert time.monotonic() < limit, body
        time.sleep(0.05)


def test_workers_answer_as_one_and_one_that_is_killed_takes_nobody_away(url: str) -> None:
    pod = until_ready(url, 4)["pod"]
    assert pod["expected"] == 4
    answered = set()
    for _ in range(40):
        status, body = ask(url)
        assert (status, body["status"]) == (200, "pass")
        answered |= {one["pid"] for one in body["pod"]["workers"] if one["answers"]}
    assert len(answered) > 1, "one worker has answered all"
    victim = pod["workers"][0]["pid"]
    os.kill(victim, signal.SIGKILL)
    limit = time.monotonic() + 30
    while victim in [one["pid"] for one in body["pod"]["workers"]]:
        status, body = ask(url)
        assert status in {200, 0}  # 0: the one that was killed had taken the connection
        if status == 0:
            body["pod"]["workers"] = [{"pid": victim}]
        assert time.monotonic() < limit
    assert until_ready(url, 4, without=victim)["pod"]["joined"] == 4


@pytest.mark.long
def test_a_reload_lets_the_old_workers_serve_until_the_new_ones_are_ready(url: str) -> None:
    """gunicorn ends all of them in the moment in which it starts the others."""
    old = {one["pid"] for one in until_ready(url, 4)["pod"]["workers"]}
    supervisor = parent_of(next(iter(old)))
    os.kill(supervisor, signal.SIGHUP)
    limit = time.monotonic() + 60
    served_on = False
    while True:
        status, body = ask(url)
        # 0: uvicorn closes what it has accepted and not read yet as it ends.
        assert status in {200, 0}, body
        workers = body["pod"]["workers"]
        served_on |= any(one["draining"] for one in workers)
        if not old & {one["pid"] for one in workers} and body["pod"]["ready"] == 4:
            break
        assert time.monotonic() < limit, body
    assert served_on, "it was seen while both generations were there"


@pytest.mark.long
def test_a_worker_more_or_less_is_no_outage(url: str) -> None:
    """SIGTTIN has gunicorn start a fifth worker, and SIGTTOU end the oldest."""
    supervisor = parent_of(until_ready(url, 4)["pod"]["workers"][0]["pid"])
    for number, ready in ((signal.SIGTTIN, 5), (signal.SIGTTOU, 4), (signal.SIGTTOU, 3)):
        os.kill(supervisor, number)
        limit = time.monotonic() + 60
        while True:
            status, body = ask(url)
            pod = body["pod"]
            # 0: uvicorn closes what it has accepted and not read yet as it ends.
            assert status in {200, 0}, body
            assert status == 0 or body["status"] == "pass", body
            if pod["ready"] == len(pod["workers"]) == ready:
                break
            assert time.monotonic() < limit, body
        assert pod["expected"] == 4, "that is what the command line says"


@pytest.mark.long
@pytest.mark.parametrize("url", [["--max-requests", "100"]], indirect=True)
def test_workers_that_are_recycled_together_fail_readyz_only_while_too_few_are_ready(
    url: str,
) -> None:
    """They began together, so they reach the number together."""
    old = {one["pid"] for one in until_ready(url, 4)["pod"]["workers"]}
    limit = time.monotonic() + 120
    while True:
        for path in ("livez", "startupz"):
            with contextlib.suppress(httpx.TransportError):  # its worker had ended meanwhile
                assert httpx.get(f"{url}/{path}", timeout=20, trust_env=False).status_code == 200
        status, body = ask(url)
        pod = body["pod"]
        if status == 503:
            assert pod["ready"] <= 2, body
            assert f"{pod['ready']} of 4 workers are ready" in body["output"]
        elif status == 200 and not old & {one["pid"] for one in pod["workers"]}:
            break
        assert time.monotonic() < limit, body
    assert len(until_ready(url, 4)["pod"]["workers"]) == 4, "what the old ones left is gone"
