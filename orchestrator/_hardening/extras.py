"""Third-party packages that come with an extra: an error says how to install a missing one."""

import contextlib
from collections.abc import Generator


@contextlib.contextmanager
def needs(user: str, package: str, module: str, extra: str) -> Generator[None]:
    """Import it inside this block.

    Args:
        user: What needs the package, as the application knows it.
        package: The package, as it is installed.
        module: Its module.
        extra: The extra of ours that brings it.

    Raises:
        ModuleNotFoundError: When it is not installed. One that is there, and lacks something
            itself, says so in its own words.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name != module:
            raise
        words = f"{user} needs {package}: install startup-orchestrator[{extra}]"
        raise ModuleNotFoundError(words, name=module) from None
