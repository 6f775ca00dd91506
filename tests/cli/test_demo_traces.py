"""`startup-orchestrator demo --otlp`: traces go to a collector, and one is told where to look."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from orchestrator.cli._app import _with_endpoint, run
from orchestrator.cli.demo.picture import picture
from orchestrator.cli.demo.reports import SpanReport
from tests.otel.otel_process import ROOT, receiving

SVG = "{http://www.w3.org/2000/svg}"


def test_the_demo_says_where_to_look_and_the_trace_is_there(tmp_path: Path) -> None:
    drawn = tmp_path / "trace.svg"
    with receiving() as receiver:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "orchestrator", "demo", "--no-outage"),
                *("--connections", "10", "--redis-delay", "0.5", "--settle", "0.1"),
                *("--otlp", receiver.url, "--svg", str(drawn)),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=ROOT,
            env=os.environ | {"PYTHONWARNINGS": "error"},
        )
    assert (done.returncode, done.stderr) == (0, "")
    (trace,) = {span.trace_id.hex() for span in receiver.spans}
    assert f"Look for trace {trace}\n" in done.stdout
    assert f"http://localhost:16686/trace/{trace}\n" in done.stdout
    assert 'resource.service.name = "chat-demo"' in done.stdout
    texts = [text.text for text in ET.parse(drawn).iter(f"{SVG}text")]  # noqa: S314  our own file
    assert f"trace {trace}" in texts
    assert {span.name for span in receiver.spans} <= set(texts)


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


def test_what_is_drawn_is_escaped_and_in_its_place() -> None:
    spans = [
        SpanReport("t" * 32, "a", "", "<root>", 0, 100_000_000, [("e", 50_000_000, "a -> b")], ""),
        SpanReport("t" * 32, "b", "a", "PING", 25_000_000, 75_000_000, [], "Refused"),
    ]
    root = ET.fromstring(picture(spans))  # noqa: S314  made above
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    assert [bar.find(f"{SVG}title").text for bar in bars] == [  # type: ignore[union-attr] # it has one
        "<root>",
        "PING: Refused",
    ]
    outer, inner = (float(bar.attrib["width"]) for bar in bars)
    assert inner == pytest.approx(outer / 2, abs=2)
    assert "a -> b" in [text.text for text in root.iter(f"{SVG}text")]


def test_the_picture_of_the_documentation_is_one_of_real_spans() -> None:
    text = (ROOT / "docs/images/startup-trace.svg").read_text(encoding="utf-8")
    assert len(re.findall(r"trace [0-9a-f]{32}<", text)) == 3
    for name in ("startup booting", "condition chat-listener", "startup grace", "degrade", "PING"):
        assert f">{name}</text>" in text
