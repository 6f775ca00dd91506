"""What the project requires: from pyproject.toml, and closed over what that requires in turn."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN = canonicalize_name(PROJECT["name"])
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

RUNTIME_EXTRAS = (
    "aiohttp",
    "cli",
    "demo",
    "grpc",
    "health",
    "pydantic",
    "trio",
    "websockets",
)
"""Those of which the lowest versions are tested; the others bring what tests and pages need."""


def direct(extras: Iterable[str]) -> Iterator[Requirement]:
    """What the project itself names, with what these extras add."""
    lines = [*PROJECT["dependencies"]]
    waiting, seen = [*extras], set[str]()
    while waiting:
        if (extra := waiting.pop()) not in seen:
            seen.add(extra)
            lines += EXTRAS[extra]
            own = (one for one in map(Requirement, EXTRAS[extra]) if one.name == OWN)
            waiting += [name for one in own for name in one.extras]
    for requirement in map(Requirement, lines):
        if requirement.name != OWN:
            yield requirement


def lowest(requirement: Requirement) -> Version | None:
    """The oldest version that is allowed, if there is such a bound."""
    bounds = [Version(one.version) for one in requirement.specifier if one.operator in {">=", "=="}]
    return max(bounds, default=None)


def pins() -> dict[str, Version]:
    """What constraints.txt says."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [re.fullmatch(r"([\w.-]+)==([\w.]+)", one) for one in lines if one[:1] not in {"#", ""}]
    assert all(pairs), "each line is NAME==VERSION"
    return {canonicalize_name(pair[1]): Version(pair[2]) for pair in pairs if pair}


def installed(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """All that these requirements bring, as it is installed here.

    Raises:
        PackageNotFoundError: When something of it is not installed.
    """
    found: dict[str, Distribution] = {}
    waiting, seen = [*requirements], set[tuple[str, str]]()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            found[name] = distribution(name)
            for line in found[name].requires or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return found
