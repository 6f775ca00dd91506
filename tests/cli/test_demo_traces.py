"""`startup-orchestrator demo --otlp`: traces go to a collector, and one is told where to look."""

import os
import subprocess
import sys

import pytest

from orchestrator.cli._app import _with_endpoint, run
from tests.otel.otel_process import ROOT, receiving


def test_the_demo_says_where_to_look_and_the_trace_is_there() -> None:
    with receiving() as receiver:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "orchestrator", "demo", "--no-outage"),
                *("--connections", "10", "--redis-delay", "0.5", "--settle", "0.1"),
                *("--otlp", receiver.url.replace("//", "//user:secret@"), "--traces"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
            env=os.environ | {"PYTHONWARNINGS": "error"},
        )
    assert (done.returncode, done.stderr) == (0, "")
    # Its end has a trace of its own, which nobody is sent to.
    spans = [span for span in receiver.spans if not span.name.startswith("shutdown")]
    assert len(spans) < len(receiver.spans)
    (trace,) = {span.trace_id.hex() for span in spans}
    assert "exported to 127.0.0.1 too" in done.stdout
    assert "secret" not in done.stdout
    assert f"Look for trace {trace}\n" in done.stdout
    assert f"http://localhost:16686/trace/{trace}\n" in done.stdout
    assert 'resource.service.name = "chat-demo"' in done.stdout
    assert f"trace {trace} " in done.stdout
    assert all(span.name in done.stdout for span in spans)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["demo", "--otlp"], ["demo", "--otlp", "http://localhost:4318"]),
        (["demo", "--otlp", "--compare"], ["demo", "--otlp", "http://localhost:4318", "--compare"]),
        (["demo", "--otlp", "http://c:4318"], ["demo", "--otlp", "http://c:4318"]),
        (["demo", "--compare"], ["demo", "--compare"]),
    ],
)
def test_the_endpoint_may_be_left_out(arguments: list[str], expected: list[str]) -> None:
    assert _with_endpoint(arguments) == expected


def test_an_endpoint_that_is_no_url_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--otlp", "secret@collector"]) == 2
    error = capsys.readouterr().err
    assert error == ("startup-orchestrator: --otlp takes a URL, such as http://localhost:4318\n")
