"""Pyright, strict, on right and wrong uses; mypy, strict, checks the same files in `make types`."""

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

from orchestrator import Policy
from states._policy import PolicyOverrides

HERE = Path(__file__).parent
IGNORE = re.compile(r"  # type: ignore\[[\w, -]+\]  # pyright: ignore\[([\w, ]+)\]$")


def found_by_pyright(folder: Path) -> dict[tuple[str, int], set[str]]:
    """The rules that are broken, by file and line."""
    strict = {"typeCheckingMode": "strict", "extraPaths": [str(HERE.parents[1])]}
    (folder / "pyrightconfig.json").write_text(json.dumps(strict), encoding="utf-8")
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(folder)]
    done = subprocess.run(
        [*command, "--pythonpath", sys.executable], capture_output=True, text=True, check=False
    )
    found: dict[tuple[str, int], set[str]] = {}
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(list(folder.glob("*.py")))
    for one in report["generalDiagnostics"]:
        at = Path(one["file"]).name, one["range"]["start"]["line"] + 1
        found.setdefault(at, set()).add(one["rule"])
    return found


def test_pyright_has_nothing_against_right_uses_and_names_each_wrong_one(tmp_path: Path) -> None:
    expected: dict[tuple[str, int], set[str]] = {}
    for name in ("right.py", "wrong.py"):
        lines = (HERE / name).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, start=1):
            if ignore := IGNORE.search(line):
                expected[name, number] = set(ignore[1].split(", "))
        bare = "\n".join(IGNORE.sub("", line) for line in lines)
        (tmp_path / name).write_text(bare, encoding="utf-8")
    assert len(expected) > 20
    assert found_by_pyright(tmp_path) == expected


def test_overrides_are_the_fields_of_the_policy() -> None:
    typed = {field.name: field.type for field in fields(Policy) if field.name != "platform"}
    assert get_type_hints(PolicyOverrides) == typed
    assert list(PolicyOverrides.__annotations__) == list(typed), "in the same order"
    assert not PolicyOverrides.__required_keys__
