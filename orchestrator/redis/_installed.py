"""Which redis-py is installed, and what it does by default; without importing it.

To import it would take as long as all else in the start of a service that does not use it yet.
"""

import os
import sys
from collections.abc import Mapping
from functools import cache

from states._records import record

_KNOWN_FROM, _KNOWN_UNTIL = (5, 0), (8, 1)
"""The first two numbers of versions; `tests/redis/test_plain_greeting.py` compares what is here."""

_CODE = (".py", ".pyc", ".pyd", ".so")


@record
class InstalledRedisPy:
    """One version of redis-py, and what it does where nothing else is said.

    Attributes:
        version: The whole of it, as it tells the server.
        major: Its first number.
        minor: Its second number.
    """

    version: str
    major: int
    minor: int

    def protocol_of(self, options: Mapping[str, str]) -> int:
        """The version of RESP that it speaks with the options of a URL."""
        return int(options.get("protocol") or (3 if self.major >= 8 else 2))  # noqa: PLR2004  8.0 changed it

    @property
    def keeps_alive(self) -> bool:
        """Whether it asks the system to look after idle connections."""
        return self.major >= 8  # noqa: PLR2004  8.0 began with it

    @property
    def wants_notices(self) -> bool:
        """Whether it asks for notices of maintenance, in RESP3."""
        return self.major >= 7  # noqa: PLR2004  7.0 began with it

    @property
    def greets_on_unix(self) -> bool:
        """Whether it works on Unix sockets in RESP3: some versions ask for notices there, too."""
        return not (7, 0) <= (self.major, self.minor) < (8, 1)


@cache
def installed_redis_py() -> InstalledRedisPy | None:
    """The installed redis-py.

    `None` where its version cannot be seen in this way, or its defaults are not known here: then
    redis-py has to be asked itself.
    """
    for entry in sys.path:
        names = _names_in(entry or ".")
        if names is None:
            return None
        # What is imported under that name must be what the only description is of.
        described = [name for name in names if name.lower().startswith("redis-")]
        described = [name for name in described if name.endswith((".dist-info", ".egg-info"))]
        is_module = any(name.startswith("redis.") and name.endswith(_CODE) for name in names)
        is_package = "redis" in names and _is_package(f"{entry or '.'}/redis")
        if described or is_module or is_package:
            is_clear = is_package and not is_module and len(described) == 1
            return _of_description(described[0]) if is_clear else None
    return None


def _names_in(folder: str) -> list[str] | None:
    """What is in a folder of `sys.path`; `None` for an archive, which may hold anything."""
    try:
        return os.listdir(folder)  # noqa: PTH208  an object for each of hundreds of names
    except NotADirectoryError:
        return None
    except OSError:
        return []


def _is_package(folder: str) -> bool:
    """Whether it is a package; else Python looks for one further on."""
    return any(name.startswith("__init__.") for name in _names_in(folder) or ())


def _of_description(name: str) -> InstalledRedisPy | None:
    """The version that an installer has put into the name of its description."""
    # Those of eggs name the version of Python, too.
    version = name.rpartition(".")[0].split("-")[1]
    numbers = version.split(".")
    if not all(map(str.isdecimal, numbers)):
        return None
    major, minor, *_ = (*map(int, numbers), 0)
    known = _KNOWN_FROM <= (major, minor) <= _KNOWN_UNTIL
    return InstalledRedisPy(version, major, minor) if known else None
