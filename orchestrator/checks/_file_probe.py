"""A file that is there, and new enough."""

import os
import time
from pathlib import Path

from orchestrator._hardening.arguments import wrong_type
from orchestrator._hardening.text import one_line
from orchestrator._ports import Target
from orchestrator._probing.abandonable import AbandonableProbe, failed
from states import Failure


class FileProbe(AbandonableProbe):
    """See `file`."""

    def __init__(self, path: str | os.PathLike[str], newer_than_seconds: float | None) -> None:
        super().__init__()
        given: object = path
        if not isinstance(given, str | os.PathLike):
            raise wrong_type(given, "path", "a path", "write file('/run/ready')")
        age: object = newer_than_seconds
        if age is not None and (isinstance(age, bool) or not isinstance(age, int | float)):
            raise wrong_type(age, "newer_than_seconds", "a number", "give seconds, or None")
        if newer_than_seconds is not None and not newer_than_seconds > 0:
            raise ValueError(f"newer_than_seconds is {newer_than_seconds!r}; it must be above 0")
        self._path = Path(path)
        self._newer_than_seconds = newer_than_seconds

    @property
    def target(self) -> Target:
        """The file."""
        return Target("file", str(self._path), operation="stat")

    def ask(self, deadline: float) -> Failure | None:
        """Look at it. A file on a network may take its time."""
        name = one_line(str(self._path))
        try:
            changed_at = self._path.stat().st_mtime
        except FileNotFoundError:
            return failed("FileNotFoundError", f"{name} is not there")
        except (OSError, ValueError) as error:
            return failed(type(error).__name__, f"{name} cannot be looked at")
        age = time.time() - changed_at
        if self._newer_than_seconds is not None and age > self._newer_than_seconds:
            return failed(
                "StaleFile", f"{name} is older than {self._newer_than_seconds:g} s: {age:.0f} s"
            )
        return None


def file(path: str | os.PathLike[str], *, newer_than_seconds: float | None = None) -> FileProbe:
    """A probe that looks whether a file is there, such as one that another process writes.

    Args:
        path: Where it is.
        newer_than_seconds: How old it may be, by the time of its last change; `None` for any age.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the age is not above 0.
    """
    return FileProbe(path, newer_than_seconds)
