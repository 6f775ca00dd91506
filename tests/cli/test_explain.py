"""`explain`, where a service answers something else than that all is well."""

import json

import pytest

from orchestrator.cli import main
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
