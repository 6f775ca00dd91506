"""`python -m tests.packaging.newest`: in one line, what is not as constraints.txt has it."""

from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from tests.packaging.requirements import pins


def others() -> list[str]:
    """Each package with its version here and the one that is pinned."""
    found = []
    for name, pinned in pins().items():
        try:
            here = Version(version(name))
        except PackageNotFoundError:
            continue
        if here != pinned:
            found.append(f"{name} {here} ({pinned})")
    return found


if __name__ == "__main__":
    print("Not as in constraints.txt:", ", ".join(others()) or "nothing")
