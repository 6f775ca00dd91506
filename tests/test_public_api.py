"""One public home for each name: what is exported, and that it works as typed."""

import importlib
import pkgutil

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
