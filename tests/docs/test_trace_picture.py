"""The picture of a start-up's traces, and what draws it."""

import importlib.util
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.demo.reports import SpanReport

DOCS = Path(__file__).parents[2] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


def drawing() -> Any:
    """The module that draws it, which lies in no package."""
    path = DOCS / "_sphinx" / "trace_picture.py"
    spec = importlib.util.spec_from_file_location("trace_picture", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_drawn_is_escaped_and_in_its_place() -> None:
    spans = [
        SpanReport("t" * 32, "a", "", "<root>", 0, 100_000_000, [("e", 50_000_000, "a -> b")], ""),
        SpanReport("t" * 32, "b", "a", "PING", 25_000_000, 75_000_000, [], "Refused"),
    ]
    root = ET.fromstring(drawing().picture(spans))  # noqa: S314  made above
    bars = [bar for bar in root.iter(f"{SVG}rect") if bar.find(f"{SVG}title") is not None]
    assert [bar.find(f"{SVG}title").text for bar in bars] == [  # type: ignore[union-attr] # it has one
        "<root>",
        "PING: Refused",
    ]
    outer, inner = (float(bar.attrib["width"]) for bar in bars)
    assert inner == pytest.approx(outer / 2, abs=2)
    assert "a -> b" in [text.text for text in root.iter(f"{SVG}text")]


def test_the_picture_of_the_documentation_is_one_of_real_spans() -> None:
    text = (DOCS / "images/startup-trace.svg").read_text(encoding="utf-8")
    assert len(re.findall(r"trace [0-9a-f]{32}<", text)) == 3
    for name in ("startup booting", "condition chat-listener", "startup grace", "degrade", "PING"):
        assert f">{name}</text>" in text
