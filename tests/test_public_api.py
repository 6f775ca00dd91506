"""One public home for each name: what is exported, and that it works as typed."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

import orchestrator
import states

PUBLIC = [orchestrator, states]


@pytest.mark.parametrize("package", PUBLIC, ids=lambda package: package.__name__)
def test_every_exported_name_exists_and_is_sorted(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]  # a module
    assert len(names) == len(set(names))
    for name in names:
        assert getattr(package, name).__doc__ or name == "Fact"


def test_names_are_loaded_when_they_are_first_used_and_then_kept() -> None:
    code = """
import sys, orchestrator
assert not {"anyio", "transitions", "states"} & set(sys.modules), "loaded too early"
assert set(orchestrator.__all__) <= set(dir(orchestrator))
assert orchestrator.Stage is orchestrator.Stage is vars(orchestrator)["Stage"]
from orchestrator import *
assert Orchestrator is orchestrator.Orchestrator
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_names_of_the_fleet_are_loaded_likewise_and_publishing_loads_no_redis_py() -> None:
    code = """
import sys, orchestrator.fleet as fleet
from orchestrator.fleet import Fleet
Fleet("redis://localhost", service="chat")
assert "redis" not in sys.modules
assert all(hasattr(fleet, name) for name in fleet.__all__)
known = {name for names in fleet._MODULES.values() for name in names}
assert set(fleet.__all__) == known <= set(dir(fleet))
assert not hasattr(fleet, "import_everything")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_name_that_does_not_exist_is_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="'orchestrator' has no attribute 'import_everything'"):
        orchestrator.import_everything  # type: ignore[attr-defined]  # noqa: B018  that is the test


def test_public_names_of_states_that_applications_need_are_in_orchestrator_too() -> None:
    machinery = {"LEGAL", "TABLE", "Guard", "Row"}
    assert set(states.__all__) - set(orchestrator.__all__) == machinery
    for name in set(states.__all__) & set(orchestrator.__all__):
        assert getattr(states, name) is getattr(orchestrator, name)


def test_every_public_module_has_a_docstring_and_exports_what_it_defines() -> None:
    for module in pkgutil.iter_modules(orchestrator.__path__):
        if module.name.startswith("_"):
            continue
        loaded = importlib.import_module(f"orchestrator.{module.name}")
        assert loaded.__doc__, module.name
