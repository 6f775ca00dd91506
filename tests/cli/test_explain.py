"""`explain`, where a service answers something else than that all is well."""

import io
import json
import socket
from functools import partial

import pytest
from rich.console import Console

from orchestrator.cli import main
from orchestrator.cli.query import watch_view
from tests.redis_server import FakeServer, saying


def http_answer(status: int, **told: object) -> bytes:
    body = json.dumps(told).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(("lag_seconds", "is_said"), [(0.8, True), (0.01, False)])
def test_a_blocked_event_loop(
    lag_seconds: float, is_said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = http_answer(200, stage="grace", loop_lag_seconds=lag_seconds)
    with FakeServer(saying(answer)) as server:
        assert main(["explain", f"127.0.0.1:{server.port}"]) == 0
    assert ("the event loop was 0.80 s late" in capsys.readouterr().out) == is_said


def test_a_status_page_behind_the_gate(capsys: pytest.CaptureFixture[str]) -> None:
    with FakeServer(saying(http_answer(503))) as server:
        assert main(["explain", f"127.0.0.1:{server.port}"]) == 2
    assert "/startup/state answered 503: is it behind the gate?" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/readyz", "/health/readyz"])
def test_a_service_without_a_page_is_explained_by_its_health_endpoint(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def talk(sock: socket.socket) -> None:
        asked.append(sock.recv(4096).split()[1].decode())
        told = http_answer(503, stage="grace", waits_for=["condition cache"])
        sock.sendall(told if asked[-1] == path else http_answer(404))

    with FakeServer(talk) as server:
        assert main(["explain", f"127.0.0.1:{server.port}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f"grace, says {path}", "waits for: condition cache"]
    assert "does the application mount web_app(startup)" in lines[2]
    assert asked[0] == "/startup/state"


def test_a_probe_that_is_not_redis_is_called_by_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failure = {"kind": "transient", "error_type": "OSError", "reason": "it refused"}
    told: dict[str, object] = {"stage": "probing_redis", "probe": "the queue"}
    told |= {"last_failure": failure, "failures_in_row": 1, "loop_lag_seconds": 0.5}
    told["waits_for"] = ["the queue to answer"]
    with FakeServer(saying(http_answer(200, **told))) as server:
        assert main(["explain", f"127.0.0.1:{server.port}"]) == 0
    explained = capsys.readouterr().out
    assert "the queue failed (now): it refused" in explained
    assert "something blocks it; this is not the queue" in explained
    shown = io.StringIO()
    Console(file=shown, width=80).print(watch_view._panel(told, gone=""))
    assert "the queue to answer" in shown.getvalue()
    assert "Redis" not in explained + shown.getvalue()


def test_which_worker_has_answered_and_how_the_others_stand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    workers = [
        {"pid": 7, "stage": "ready", "answers": True, "waits_for": []},
        {"pid": 8, "stage": "grace", "answers": False, "waits_for": ["Redis \x1b[2J to answer"]},
        {"pid": 9, "stage": "ready", "stuck": True, "beat_seconds": 7.4},
        "nonsense",
    ]
    pod = {"expected": 4, "joined": 3, "ready": 1, "workers": workers}
    with FakeServer(saying(http_answer(200, stage="ready", pod=pod))) as server:
        assert main(["explain", f"127.0.0.1:{server.port}"]) == 0
    explained = capsys.readouterr().out
    wanted = [
        "workers: 1 of 4 are ready, 3 have joined",
        "worker 7: ready (this one has answered)",
        "worker 8: grace, waits for: Redis ",
        "worker 9: stuck for 7 s",
    ]
    assert all(line in explained for line in wanted), explained
    assert "\x1b" not in explained
    shown = io.StringIO()
    Console(file=shown, width=80).print(watch_view._panel({"stage": "ready", "pod": pod}, gone=""))
    assert "1 of 4 are ready, 3 have joined" in shown.getvalue()
    assert "9: stuck for 7 s" in shown.getvalue()
    oddities: list[object] = [{"alone": True, "pid": 5}, [], {"workers": 3, "ready": "x"}]
    for strange in oddities:
        with FakeServer(saying(http_answer(200, stage="ready", pod=strange))) as server:
            assert main(["explain", f"127.0.0.1:{server.port}"]) == 0
    assert "worker 5: answers for itself alone" in capsys.readouterr().out


def test_the_account_of_a_start_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    begins = {"kind": "condition", "critical": True, "done": True, "required": True, "after": []}
    steps = [
        {**begins, "name": "imports", "kind": "start", "began_seconds": 0, "ended_seconds": 3.9},
        {**begins, "name": "db\x1b[2J", "began_seconds": 3.9, "ended_seconds": 5.2},
        {**begins, "name": "cache", "began_seconds": 3.9, "ended_seconds": 4.4, "critical": False},
        {"name": "nonsense", "kind": "nonsense"},
        "nonsense",
    ]
    told = {"ready": True, "seconds": 5.2, "last_to_hold": "db\x1b[2J", "steps": steps}
    with FakeServer(saying(http_answer(200, stage="ready", account=told))) as server:
        url = f"127.0.0.1:{server.port}/readyz"
        assert main(["explain", url, "--account"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert main(["explain", url, "--account", "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["steps"]) == 3
    bars = "=" * 30, "=" * 10, "-" * 4
    assert lines == [
        "ready after 5.200 s",
        f"  imports       3.900 s  |{bars[0]}{' ' * 10}|",
        rf"  db\x1b[2J     1.300 s  |{' ' * 30}{bars[1]}|  last to hold",
        "beside these, and delaying nothing:",
        f"  cache         0.500 s  |{' ' * 30}{bars[2]}{' ' * 6}|",
    ]
    with FakeServer(saying(http_answer(200, stage="ready"))) as server:
        assert main(["explain", f"127.0.0.1:{server.port}", "--account"]) == 2
    assert "tells no account" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["/readyz", "/health/livez", "/readyz/database?verbose"])
def test_the_url_of_a_health_endpoint_will_do(
    path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def talk(sock: socket.socket, status: int) -> None:
        asked.append(sock.recv(4096).split()[1].decode())
        sock.sendall(http_answer(status if asked[-1] == "/startup/state" else 200, stage="grace"))

    for status in (200, 404):
        with FakeServer(partial(talk, status=status)) as server:
            assert main(["explain", f"127.0.0.1:{server.port}{path}"]) == 0
    assert asked[:2] == ["/startup/state", "/startup/state"]
    assert asked[2] == path  # without a page, what was given is asked first


def test_all_conditions_are_shown_in_their_order_and_a_failure_with_its_age(
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = {"required": True, "satisfied": False, "since_seconds": 2.0}
    told = {
        "listener": {**one, "after": ["redis", "database"], "reason": "after database"},
        "billing": {**one, "required": False, "after": [], "reason": "refused"},
        "database": {**one, "satisfied": True, "after": ["redis"], "reason": ""},
    }
    failure = {"reason": "it refused"}
    state: dict[str, object] = {"stage": "grace", "conditions": told, "probe_answers": True}
    state |= {"last_failure": failure, "last_failure_seconds": 312.0, "failures_in_row": 0}
    with FakeServer(saying(http_answer(200, **state))) as server:
        assert main(["explain", f"127.0.0.1:{server.port}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Redis failed (last time, 312.0 s ago): it refused" in lines
    at = lines.index("Redis answers")
    assert lines[at : at + 4] == [
        "Redis answers",
        "  condition database holds, for 2.0 s now",
        "    condition listener does not hold, for 2.0 s now: after database",
        "condition billing does not hold, for 2.0 s now: refused (not required)",
    ]
