"""The bounds of pyproject.toml, as far as they can be checked without installing anything.

That the lowest versions work is what `make test-minimal` shows.
"""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.packaging.requirements import (
    EXTRAS,
    PROJECT,
    ROOT,
    RUNTIME_EXTRAS,
    direct,
    installed,
    lowest,
    pins,
)
from tests.test_architecture import IMPORTED_IN

# Imported by what we require, in the rooms that pass it on: each comes with one of these.
COMES_WITH = {
    "opentelemetry": "opentelemetry-sdk",
    "grpc": "opentelemetry-exporter-otlp",
    "pydantic_core": "pydantic",
    "pydantic_settings": "pydantic-settings",
    "trio": "anyio",
}
# The plugin for pytest is loaded by pytest alone; SQLAlchemy where an application gives its engine.
NOT_OURS_TO_BRING = {"pytest", "sqlalchemy"}


def test_every_dependency_has_a_lower_bound() -> None:
    unbound = [str(one) for one in direct(EXTRAS) if lowest(one) is None]
    assert unbound == []


def test_one_package_has_one_lower_bound() -> None:
    bounds: dict[str, set[str]] = {}
    for one in direct(EXTRAS):
        bounds.setdefault(canonicalize_name(one.name), set()).add(str(lowest(one)))
    assert {name: found for name, found in bounds.items() if len(found) > 1} == {}


def test_what_it_is_tested_with_is_allowed() -> None:
    tested = pins()
    for one in direct(set(EXTRAS) - {"otlp-receiver"}):
        pinned = tested[canonicalize_name(one.name)]
        assert one.specifier.contains(pinned, prereleases=True), one


def test_constraints_are_complete_and_sorted() -> None:
    here = installed(direct(["dev"]))
    venv = {
        "setuptools"
    }  # comes with a virtual environment, or does not, as Python's version has it
    assert set(here) - set(pins()) - venv == set(), "constraints.txt does not pin these"
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if not line.startswith("#")]
    assert names == sorted(names, key=str.lower)


@pytest.mark.parametrize("package", sorted(set(IMPORTED_IN) - NOT_OURS_TO_BRING))
def test_each_package_that_is_imported_is_required(package: str) -> None:
    required = {canonicalize_name(one.name) for one in direct(RUNTIME_EXTRAS)}
    assert COMES_WITH.get(package, package) in required


def test_all_extras_that_tests_need_are_in_dev() -> None:
    inside = {name for line in EXTRAS["dev"] for name in Requirement(line).extras}
    # Compared with, or too large, or not made for every platform.
    left_out = {"bench", "dev", "kubernetes", "mutants", "otlp-receiver"}
    indirect = {"cli", "websockets"}  # by way of demo
    own = inside & set(EXTRAS)
    assert own | indirect == set(EXTRAS) - left_out


def test_the_classifiers_say_what_is_allowed() -> None:
    versions = [
        line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)
    ]
    assert PROJECT["requires-python"] == f">={versions[0]}"
