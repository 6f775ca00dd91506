"""What is in the two distributions."""

import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import PurePosixPath

import pytest
from markdown_it import MarkdownIt

from orchestrator import __version__
from tests.packaging.environments import Built
from tests.packaging.requirements import EXTRAS, PROJECT, ROOT

INFO = f"startup_orchestrator-{__version__}.dist-info"


@pytest.fixture
def wheel(built: Built) -> dict[str, bytes]:
    with zipfile.ZipFile(built.wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def metadata(wheel: dict[str, bytes]) -> Message:
    return Parser().parsestr(wheel[f"{INFO}/METADATA"].decode())


def test_the_wheel_has_the_two_packages_and_nothing_else(wheel: dict[str, bytes]) -> None:
    assert {PurePosixPath(name).parts[0] for name in wheel} == {"orchestrator", "states", INFO}
    here = {
        path.relative_to(ROOT).as_posix()
        for package in ("orchestrator", "states")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel if not name.startswith(INFO)} == here
    assert {"orchestrator/py.typed", "states/py.typed", "orchestrator/web/page.html"} <= here


def test_the_wheel_can_be_installed_anywhere(built: Built) -> None:
    assert built.wheel.name == f"startup_orchestrator-{__version__}-py3-none-any.whl"
    assert built.sdist.name == f"startup_orchestrator-{__version__}.tar.gz"


def test_the_license_and_the_entry_points(wheel: dict[str, bytes], metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert wheel[f"{INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    points = wheel[f"{INFO}/entry_points.txt"].decode()
    assert "startup-orchestrator = orchestrator.cli:main" in points
    assert "orchestrator.testing.plugin = orchestrator.testing.plugin" in points


def test_the_metadata(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("startup-orchestrator", __version__)
    assert set(metadata.get_all("Provides-Extra", [])) == set(EXTRAS)
    plain = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(plain) == len(PROJECT["dependencies"])
    assert metadata["Requires-Python"] == PROJECT["requires-python"]


def test_the_readme_is_the_description_and_renders(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    assert isinstance(text, str)
    assert text.strip() == (ROOT / "README.md").read_text(encoding="utf-8").strip()
    page = MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert page.startswith("<h1>startup-orchestrator</h1>")
    assert "```" not in page, "a block of code is not closed"


def test_the_sdist_has_all_that_the_tests_need(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        path.relative_to(ROOT).as_posix()
        for folder in (".ci", "docs", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not {"__pycache__", "_build"} & set(path.parts)
    }
    needed |= {path.name for path in ROOT.glob("*.md")}
    needed |= {"Makefile", "constraints.txt", "pyproject.toml", "otel-collector.yaml", "LICENSE"}
    assert needed - inside == set()
