"""`python -m tests.packaging.lowest`: requirements for the oldest versions that are allowed.

They are those of what is required directly: what these require in turn is as new as they let it be,
as it would be for somebody who installs them today. `make test-minimal` has uv choose the lowest
that has a wheel for the Python at hand, runs `--installed` there to hear which that are, and then
the tests.
"""

import sys
from importlib.metadata import version

from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.packaging.requirements import PROJECT, RUNTIME_EXTRAS, direct, lowest, pins

_TOOLS = {
    "httptools",
    "httpx",
    "hypothesis",
    "psutil",
    "pytest",
    "pytest-xdist",
    "pyyaml",
    "uvloop",
}
"""What the tests themselves need."""


def bounds() -> dict[str, Version]:
    """The oldest version of each package that is required directly to run."""
    pairs = ((one.name, lowest(one)) for one in direct(RUNTIME_EXTRAS))
    return {canonicalize_name(name): bound for name, bound in pairs if bound is not None}


def requirements() -> list[str]:
    """The package with its extras, each runtime dependency by its bound, and tools as pinned."""
    tools = [f"{name}=={version}" for name, version in pins().items() if name in _TOOLS]
    wanted = sorted(f"{name}>={bound}" for name, bound in bounds().items())
    # FastAPI's oldest does not know the oldest Starlette: uv finds the first that does.
    return [f"--editable .[{','.join(RUNTIME_EXTRAS)}]", *wanted, *tools, "fastapi>=0.115"]


def newer() -> list[str]:
    """Which packages are installed here in a newer version than their bound."""
    found = {name: (Version(version(name)), bound) for name, bound in bounds().items()}
    return [f"{name} {here} (not {bound})" for name, (here, bound) in found.items() if here > bound]


def main() -> int:
    """Print one or the other; fail where the oldest Python does not get the oldest versions."""
    if "--installed" not in sys.argv:
        print(*requirements(), sep="\n")  # the Makefile reads it
        return 0
    oldest = f">={sys.version_info[0]}.{sys.version_info[1]}" == PROJECT["requires-python"]
    if (others := newer()) and not oldest:
        print("Older ones have no wheel for this Python:", ", ".join(others))
        return 0
    if others:
        print("These should be older:", ", ".join(others))  # for whoever ran make
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
