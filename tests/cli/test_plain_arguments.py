"""`wait` as it is mostly written is read without Typer, and means exactly the same."""

import itertools
import random
import subprocess
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli import main
from orchestrator.cli._app import app
from orchestrator.cli.wait import wait_as_asked
from orchestrator.cli.wait.plain_arguments import plain_arguments

WORDS = [
    "--redis",
    "--redis=redis://cache",
    "redis://cache",
    "--check",
    "--check=tcp://db",
    "--optional",
    "--timeout",
    "--timeout=5",
    "5",
    "2.5",
    "1e3",
    "nan",
    "--quiet",
    "-q",
    "-qq",
    "--account",
    "--json",
    "--json=true",
    "--redi",
    "--help",
    "--",
    "-",
    "-1",
    "",
    "--redis=",
    "echo",
]
UNSET: dict[str, Any] = {
    "redis": None,
    "check": None,
    "optional": None,
    "timeout": None,
    "quiet": False,
    "account": False,
    "json": False,
    "command": None,
}


def as_typer_reads(words: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any] | None:
    """What Typer gives to the command; `None` where it gives nothing."""
    taken: list[dict[str, Any]] = []

    def take(**given: Any) -> int:
        taken.append(given)
        return 0

    monkeypatch.setattr(wait_as_asked, "wait_as_asked", take)
    CliRunner().invoke(app, ["wait", *words])
    return without_empty(taken[0]) if taken else None


def without_empty(given: dict[str, Any]) -> dict[str, Any]:
    """An empty list is as good as none."""
    return {name: None if value == [] else value for name, value in given.items()}


def lines() -> list[list[str]]:
    """Every line of two words, and some that are longer."""
    chance = random.Random(1)
    longer = ([chance.choice(WORDS) for _ in range(chance.randrange(3, 8))] for _ in range(150))
    return [[], *map(list, itertools.product(WORDS, repeat=2)), *longer]


def test_what_is_plain_is_what_typer_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = 0
    for words in lines():
        given = plain_arguments(words)
        if given is not None:
            plain += 1
            read = as_typer_reads(words, monkeypatch)
            assert without_empty({**UNSET, **given}) == read, words
    assert plain > 100


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--redis", "redis://cache:6379/0", "--timeout", "30"],
        [
            "--redis=redis://cache",
            "--check",
            "tcp://db:5432",
            "-q",
            "--",
            "uvicorn",
            "--port",
            "80",
        ],
        [
            "--optional=http://billing",
            "--optional",
            "tcp://mail:25",
            "--account",
            "python",
            "-m",
            "x",
        ],
        ["--json"],
    ],
)
def test_what_containers_start_with_is_plain(words: list[str]) -> None:
    assert plain_arguments(words) is not None


def test_plain_words_load_no_typer_and_neither_rich() -> None:
    code = """
import sys
from orchestrator.cli import main
status = main(["wait", "--redis", "redis://127.0.0.1:1", "--timeout", "0.05"])
assert status == 124, status
print(sorted({"typer", "rich", "pydantic"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_shell_that_completes_asks_typer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_STARTUP_ORCHESTRATOR_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "startup-orchestrator wait --quie")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        main(["wait", "--redis", "redis://127.0.0.1:1"])
    assert "--quiet" in capsys.readouterr().out
