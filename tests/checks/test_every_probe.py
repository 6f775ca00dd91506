"""Every public probe takes part in the tests that all probes share: a new one is missed here."""

import re
from pathlib import Path

import pytest

from orchestrator import checks

HERE = Path(__file__).parent
PROBES = {name for name in checks.__all__ if name.islower()} - {"from_url"}

SHARED = {
    "test_probe_traps": set[str](),
    "test_exit": {"file"},  # it has no server that could hang
    "test_wrong_servers": {"call", "file", "tcp"},  # they speak no protocol
    "test_mistaken_urls": {"call", "file"},  # they are given no URL by themselves
    "test_from_url": {
        "call",
        "postgres",
    },  # no URL names a function; the other is `postgresql`
}
"""The modules, with the probes that have no part in them."""


@pytest.mark.parametrize("module", SHARED)
def test_the_shared_tests_try_every_probe(module: str) -> None:
    text = (HERE / f"{module}.py").read_text(encoding="utf-8")
    tried = {name for name in PROBES if re.search(rf"\b{name}\b", text)}
    assert tried == PROBES - SHARED[module]


def test_every_probe_is_in_the_how_to() -> None:
    page = (HERE.parents[1] / "docs/how-to/conditions.md").read_text(encoding="utf-8")
    assert {name for name in PROBES if f"`{name}(" not in page} == set()
