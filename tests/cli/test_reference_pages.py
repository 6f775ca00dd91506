"""Pages and pictures that are generated are as the code would generate them now."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.cli.reference.settings_page import settings_page
from states import TABLE, Stage

ROOT = Path(__file__).parent.parent.parent


def test_the_settings_page_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "run `make docs-reference`"
    assert main(["settings", "--markdown"]) == 0
    assert capsys.readouterr().out == page


def test_every_arrow_in_the_readme_is_a_row_of_the_table() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"```mermaid\nflowchart LR\n(.+?)```", readme, re.DOTALL)
    chains = [line.split(" --> ") for line in picture.split("\n    ")]
    arrows = {(one.strip(), other.strip()) for chain in chains for one, other in pairwise(chain)}
    assert {stage for arrow in arrows for stage in arrow} == set(Stage)
    assert arrows <= {(row.source, row.target) for row in TABLE}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 100


def test_the_settings_of_an_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("K_SERVICE", "chat")
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@host")
    monkeypatch.setenv("ORCHESTRATOR_GRACE_SECONDS", "2")
    assert main(["settings"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "ORCHESTRATOR_PLATFORM=cloud_run  (detected by K_SERVICE)",
        "ORCHESTRATOR_ENABLED=true",
        "ORCHESTRATOR_REDIS_URL: Redis is at host:6379, database 0  (set by REDIS_URL)",
    ]
    assert "ORCHESTRATOR_GRACE_SECONDS=2  (set)" in lines
    assert "ORCHESTRATOR_BUDGET_SECONDS=60  (the default on cloud_run)" in lines
    assert "ORCHESTRATOR_STALL_SECONDS=0.25" in lines
    assert "hunter2" not in "".join(lines)
    monkeypatch.setenv("ORCHESTRATOR_BUDGET_SECONDS", "long")
    assert main(["settings"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "startup-orchestrator: ORCHESTRATOR_BUDGET_SECONDS is 'long'; it must be a number above 0\n"
    )
