"""`python -m tests.packaging.lowest`: requirements with the oldest versions that are allowed.

They are those of what is required directly: what these require in turn is as new as they let it be,
as it would be for somebody who installs them today. `make test-minimal` runs the tests with them.
"""

from packaging.utils import canonicalize_name

from tests.packaging.requirements import RUNTIME_EXTRAS, direct, lowest, pins

_TOOLS = {"httptools", "httpx", "hypothesis", "psutil", "pytest", "pytest-xdist", "pyyaml"}
"""What the tests themselves need."""


def requirements() -> list[str]:
    """The package with its extras, each runtime dependency at its bound, and tools as pinned."""
    bounds = {canonicalize_name(one.name): lowest(one) for one in direct(RUNTIME_EXTRAS)}
    tools = {name: version for name, version in pins().items() if name in _TOOLS}
    exact = sorted(f"{name}=={version}" for name, version in (tools | bounds).items())
    # The newest FastAPI that the oldest Starlette allows.
    return [f"--editable .[{','.join(RUNTIME_EXTRAS)}]", *exact, "fastapi"]


if __name__ == "__main__":
    print(*requirements(), sep="\n")  # noqa: T201  the Makefile reads it
