"""The demo itself: real Redis, real service, real clients, and nothing left behind."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
CLIENTS = 30
PROMISED = ["booting", "probing_redis", "grace", "ready", "degraded", "grace", "ready"]


@contextmanager
def a_demo(
    *options: str, stdout: int = subprocess.PIPE, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """The demo as a process that is ended with the block, whatever happens in it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "demo", "--connections", str(CLIENTS), *options],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "error", "COLUMNS": "80"} | environment,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read the demo's lines until one says this."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"the demo ended without saying {text!r}")


Figures = dict[str, Any]  # as JSON gives them


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[Figures]]:
    """What one demo with `--compare` printed, and its figures."""
    path = tmp_path_factory.mktemp("demo") / "figures.json"
    began_at = time.monotonic()
    with a_demo("--compare", "--traces", "--json", str(path)) as process:
        out, err = process.communicate(timeout=60)
    assert time.monotonic() - began_at < 30
    assert (process.returncode, err) == (0, ""), out
    return out, json.loads(path.read_text(encoding="utf-8"))["runs"]


def test_with_the_gate_no_client_is_lost(compared: tuple[str, list[Figures]]) -> None:
    run = compared[1][0]
    assert run["gate"] == "gate"
    assert run["served"] == run["clients"] == CLIENTS
    assert run["closes"] == {"1000": CLIENTS}
    assert run["errors"] == {}
    assert run["refused"] == 0
    # Clients were really early: some had to wait until ready.
    assert run["longest_handshake_seconds"] > 0.1


def test_with_the_gate_the_stages_are_seen_and_quick(
    compared: tuple[str, list[Figures]],
) -> None:
    run = compared[1][0]
    rest = iter(figure["stage"] for figure in run["stages"])
    assert all(stage in rest for stage in PROMISED)
    times = [figure["at_seconds"] for figure in run["stages"]]
    assert times == sorted(times)
    assert run["kill_to_degraded_seconds"] < 0.5
    assert run["restart_to_grace_seconds"] < 1.0
    assert 0.5 <= run["restart_to_ready_seconds"] < 1.5
    assert run["served_after_recovery"] is True


def test_without_a_gate_clients_get_1011(compared: tuple[str, list[Figures]]) -> None:
    run = compared[1][1]
    assert run["gate"] == "none"
    assert run["closes"]["1011"] > 0
    assert run["served"] + run["closes"]["1011"] == CLIENTS
    assert run["stages"] == []


def test_a_blocking_sleep_stalls_the_loop_and_does_not_help(
    compared: tuple[str, list[Figures]],
) -> None:
    run = compared[1][2]
    assert run["gate"] == "sleep"
    assert run["closes"]["1011"] > 0
    assert run["max_loop_stall_seconds"] >= 0.5
    assert compared[1][0]["max_loop_stall_seconds"] < run["max_loop_stall_seconds"]


def test_the_trace_is_drawn_and_named(compared: tuple[str, list[Figures]]) -> None:
    out, runs = compared
    assert f"trace {runs[0]['trace_id']}" in out
    for name in ("startup booting", "startup probing_redis", "startup grace", "PING", "recovery"):
        assert name in out
    assert "grace -> ready" in out
    assert 0 < out.index("PASSED") < out.index(f"trace {runs[0]['trace_id']}")


def test_where_there_is_no_terminal_nothing_moves_and_lines_fit(
    compared: tuple[str, list[Figures]],
) -> None:
    out = compared[0]
    assert "\x1b" not in out
    drawn = out.partition("\ntrace ")[2]
    assert max(map(len, drawn.splitlines())) <= 80


def test_in_a_terminal_a_panel_shows_the_run_as_it_stands() -> None:
    ours, its = os.openpty()
    with a_demo("--no-outage", TERM="xterm-256color", LINES="40", NO_COLOR="", stdout=its) as demo:
        os.close(its)
        shown = b""
        with contextlib.suppress(OSError):  # the other side's end reads as an error (EIO)
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
        assert demo.wait(timeout=20) == 0
    assert b"\x1b[" in shown
    screen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())  # without its control sequences
    assert "Redis down" in screen
    assert "waits for" in screen
    assert re.search(r"[1-9]\d* held", screen)
    assert "longest stall so far" in screen
    assert "PASSED" in screen


def test_in_full_each_part_falls_is_noticed_in_time_and_loses_nobody(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    with a_demo("--full", "--json", str(path), TMPDIR=str(tmp_path)) as process:
        out, err = process.communicate(timeout=150)
    assert (process.returncode, err) == (0, ""), out
    run = json.loads(path.read_text(encoding="utf-8"))["runs"][0]
    assert run["served"] == run["clients"] == CLIENTS
    names = ["Redis", "HTTP service", "chat-listener", "outbox"]
    if not run["without"]:
        names.insert(1, "PostgreSQL")
    assert [fall["name"] for fall in run["falls"]] == names
    for fall in run["falls"]:
        assert fall["noticed_seconds"] <= fall["promised_seconds"] < 2
        assert fall["served"] == fall["clients"] > 0
    # Each was really late, and the account says which was the last.
    assert run["longest_handshake_seconds"] > 1
    assert re.search(r"outbox \d\.\d s \(last to hold\)", run["account"])
    for says in ("order: outbox comes after", "its page: http://127.0.0.1:", "PASSED: no client"):
        assert says in out
    assert list(tmp_path.iterdir()) == [path]


def test_full_and_compare_do_not_go_together() -> None:
    with a_demo("--full", "--compare") as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "--full and --compare do not go together" in err


@pytest.mark.parametrize(
    ("number", "when"),
    [
        (signal.SIGTERM, "the service starts"),
        (signal.SIGINT, "Redis is killed"),
    ],
)
def test_a_signal_ends_the_demo_and_leaves_no_process(
    number: signal.Signals, when: str, tmp_path: Path
) -> None:
    with a_demo(TMPDIR=str(tmp_path)) as process:
        read_until(process, when)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert process.returncode == -number
        assert err == f"stopped by {number.name}; every process is ended\n"
        assert [child for child in children if child.is_running()] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no process can be put on a leash")
def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    with a_demo(TMPDIR=str(tmp_path)) as process:
        read_until(process, "Redis answers")
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 2
        process.kill()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert alive == []


def test_a_reader_that_leaves_early_leaves_no_process() -> None:
    with a_demo() as process:
        read_until(process, "Redis answers")
        children = psutil.Process(process.pid).children(recursive=True)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=20) == 1
        assert [child for child in children if child.is_running()] == []


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with a_demo("--port", str(port)) as process:
            _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.startswith("startup-orchestrator: the service ended before its port was open")
    assert "address already in use" in err
    assert err.count("\n") == 1
