"""One name, one meaning: no class, type alias or file of the product has the name of another."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import orchestrator

SOURCES = Path(orchestrator.__file__).parents[1]  # elsewhere, if they are installed

SAME_EVERYWHERE = {
    "__init__": "the face of its folder",
    "command": "what each command's folder says on the command line",
    "errors": "the exceptions of its room",
    "ReadinessGate": "the same gate, for ASGI, aiohttp and WSGI",
}
"""Names that mean the same wherever they stand."""


def modules() -> Iterator[Path]:
    for package in ("states", "orchestrator"):
        yield from sorted((SOURCES / package).rglob("*.py"))


def types_named_by(node: ast.stmt) -> Iterator[str]:
    """The name of a class, or of an alias; a TypeVar is one of its module's own affairs."""
    if isinstance(node, ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign) and not isinstance(node.value, ast.Call):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and re.match("_?[A-Z][a-z]", target.id):
                yield target.id


def named_twice() -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        where = str(path.relative_to(SOURCES))
        stem = path.stem
        places[stem if stem == "__init__" else stem.strip("_")].append(where)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            for name in types_named_by(node):
                places[name.strip("_")].append(where)
    return {name: found for name, found in places.items() if len(found) > 1}


def test_no_type_and_no_file_has_the_name_of_another() -> None:
    twice = named_twice()
    assert {n: p for n, p in twice.items() if n not in SAME_EVERYWHERE} == {}


def test_all_modules_are_looked_at() -> None:
    assert {path.parent.name for path in modules()} >= {"states", "orchestrator", "_gate"}


def test_each_exception_is_needed() -> None:
    assert set(SAME_EVERYWHERE) <= set(named_twice())
