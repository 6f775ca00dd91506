"""A file that exists, and is recent enough."""

import os
import time
from functools import partial
from pathlib import Path

from orchestrator._hardening.arguments import wrong_type
from orchestrator._hardening.text import one_line
from orchestrator._ports import Target
from orchestrator._probing.call_session import CallProbe, failed
from states import Failure


class FileProbe(CallProbe):
    """See `file`."""

    def __init__(self, path: str | os.PathLike[str], newer_than_seconds: float | None) -> None:
        given: object = path
        if not isinstance(given, str | os.PathLike):
            raise wrong_type(given, "path", "a path", "write file('/run/ready')")
        age: object = newer_than_seconds
        if age is not None and (isinstance(age, bool) or not isinstance(age, int | float)):
            raise wrong_type(age, "newer_than_seconds", "a number", "give seconds, or None")
        if newer_than_seconds is not None and not newer_than_seconds > 0:
            raise ValueError(f"newer_than_seconds is {newer_than_seconds!r}; it must be above 0")
        look = partial(_look_at, Path(path), newer_than_seconds)
        super().__init__(look, Target("file", str(Path(path)), operation="stat"))


def _look_at(path: Path, newer_than_seconds: float | None) -> Failure | None:
    """Look at the file, which may take long on a network."""
    name = one_line(str(path))
    try:
        changed_at = path.stat().st_mtime
    except FileNotFoundError:
        return failed("FileNotFoundError", f"{name} is not there")
    except (OSError, ValueError) as error:
        return failed(type(error).__name__, f"{name} cannot be looked at")
    age = time.time() - changed_at
    if newer_than_seconds is not None and age > newer_than_seconds:
        return failed("StaleFile", f"{name} is older than {newer_than_seconds:g} s: {age:.0f} s")
    return None


def file(path: str | os.PathLike[str], *, newer_than_seconds: float | None = None) -> FileProbe:
    """A probe that checks whether a file exists, such as one that another process writes.

    Args:
        path: Where it is.
        newer_than_seconds: How old it may be, by the time of its last change; `None` for any age.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the age is not above 0.
    """
    return FileProbe(path, newer_than_seconds)
