"""`explain`, where a service answers something else than that all is well."""

import io
import json
import socket

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
