"""Every public probe takes part in the tests that all probes share. This finds one left out."""

import re
from pathlib import Path

import pytest

from orchestrator import checks

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = Path(checks.__file__).parents[2]  # elsewhere, if they are installed
PROBES = {name for name in checks.__all__ if name.islower()} - {"from_url"}
OF_SERVERS = PROBES - {"call", "file", "tcp"}
"""Those that speak a protocol."""

UNLESS_THE_DEFAULTS_FIT = {"orchestrator/otel/_targets.py", "orchestrator/_ports.py"}
"""Files of the list that need not name every probe."""

SHARED = {
    "test_probe_traps": set[str](),
    "test_exit": {"file"},  # it has no server that could hang
    "test_wrong_servers": PROBES - OF_SERVERS,  # they speak no protocol
    "test_mistaken_urls": {"call", "file"},  # they are given no URL by themselves
    # No URL names a function, and `postgres` is spelled `postgresql` there.
    "test_from_url": {"call", "postgres"},
}
"""The modules, with the probes that have no part in them."""


@pytest.mark.parametrize("module", SHARED)
def test_the_shared_tests_try_every_probe(module: str) -> None:
    text = (HERE / f"{module}.py").read_text(encoding="utf-8")
    tried = {name for name in PROBES if re.search(rf"\b{name}\b", text)}
    assert tried == PROBES - SHARED[module]


def test_every_probe_is_in_the_how_to() -> None:
    page = (ROOT / "docs/how-to/conditions.md").read_text(encoding="utf-8")
    assert {name for name in PROBES if f"`{name}(" not in page} == set()


def listed_for_a_new_probe() -> set[str]:
    """The files that CONTRIBUTING lists for it."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.partition("### A new probe")[2].partition("\n## ")[0]
    items = [line for line in section.splitlines() if line.startswith(("- ", "  "))]
    return set(re.findall(r"`([\w/-]+\.\w+)`", "\n".join(items)))


def test_the_list_for_a_new_probe_has_every_file_that_names_them_all() -> None:
    named = set()
    for root, folder in ((SOURCES, "orchestrator"), (ROOT, "tests"), (ROOT, "docs")):
        for path in (root / folder).rglob("*.*"):
            if path.suffix in {".py", ".md", ".json", ".yaml"}:
                text = path.read_text(encoding="utf-8")
                if all(re.search(rf"\b{name}(ql)?\b", text) for name in OF_SERVERS):
                    named.add(str(path.relative_to(root)))
    assert listed_for_a_new_probe() == named | UNLESS_THE_DEFAULTS_FIT


@pytest.mark.parametrize("file", sorted(UNLESS_THE_DEFAULTS_FIT))
def test_the_files_that_have_defaults_name_some_probe(file: str) -> None:
    assert "rabbitmq" in (SOURCES / file).read_text(encoding="utf-8")
