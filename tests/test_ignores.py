"""Every ignore and every skip says why, on its own line or in pyproject.toml."""

import re
from collections.abc import Iterator
from pathlib import Path

import orchestrator

ROOT = Path(__file__).parents[1]
SOURCES = Path(orchestrator.__file__).parents[1]  # elsewhere, if they are installed
FOLDERS = [SOURCES / "states", SOURCES / "orchestrator", *(ROOT / one for one in ("tests", "docs"))]
WITHOUT_A_REASON = re.compile(
    r"# noqa(: [A-Z]+\d+(, [A-Z]+\d+)*)?\s*($|#)"
    r"|# type: ignore(\[[\w, -]+\])?\s*$"
    r"|# pragma\b[^#]*$"
    r"|pytest\.skip\(\)|importorskip\([^,]*\)$|mark\.(skip|xfail)(\(\))?$"
)
WRONG = ROOT / "tests/typing/wrong.py"
"""Two type checkers have to find each of its faults, which stand beside the ignores."""


def without_a_reason(lines: list[str]) -> Iterator[str]:
    yield from (line for line in lines if WITHOUT_A_REASON.search(line))


def test_every_ignore_and_skip_says_why() -> None:
    found = [
        f"{path}: {line.strip()}"
        for folder in (*FOLDERS, ROOT / ".ci")
        for path in sorted(folder.rglob("*.py"))
        if path not in (WRONG, Path(__file__))
        for line in without_a_reason(path.read_text(encoding="utf-8").splitlines())
    ]
    assert found == []


def test_all_modules_are_looked_at() -> None:
    assert all(any(folder.rglob("*.py")) for folder in FOLDERS)


def test_one_without_a_reason_is_found() -> None:
    code = "x = 1  # {}"
    bare = ["noqa", "noqa: S101", "noqa: S101, E501", "type: ignore[misc]", "pragma: no cover"]
    assert len(list(without_a_reason([code.format(one) for one in bare]))) == len(bare)
    said = ["noqa: S101  it is so", "type: ignore[misc]  # its types are wrong"]
    assert list(without_a_reason([code.format(one) for one in said])) == []
