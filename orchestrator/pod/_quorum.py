"""How many workers have to be ready for all of them to be."""

import math
from typing import Literal

from orchestrator._hardening.arguments import wrong_type
from states._records import record

ReadyWhen = Literal["all", "any"] | float
"""See `Pod(readyz=)`."""

_WRITE = "write readyz='all', 'any' or a share such as 0.5"


@record
class Quorum:
    """How many ready workers are enough.

    Attributes:
        readyz: `all`, `any`, or the share of the workers that has to be exceeded once all of them
            were ready together.

    Raises:
        TypeError: When it is neither a word nor a number.
        ValueError: When it is another word, or no share.
    """

    readyz: ReadyWhen = 0.5

    def __post_init__(self) -> None:
        given: object = self.readyz
        if given in ("all", "any"):
            return
        if isinstance(given, bool) or not isinstance(given, str | int | float):
            raise wrong_type(given, "readyz", "a word or a number", _WRITE)
        if isinstance(given, str) or not 0 <= given < 1 or math.isnan(given):
            raise ValueError(f"readyz is {given!r}; {_WRITE}: at least 0 and below 1")

    def enough(self, ready: int, expected: int, *, was_ready: bool) -> bool:
        """Whether `ready` workers of `expected` are enough.

        Args:
            ready: How many are ready.
            expected: How many there should be.
            was_ready: Whether all of them were ready together before.
        """
        if not ready:
            return False
        if self.readyz == "any":
            return True
        if isinstance(self.readyz, str) or not was_ready:
            return ready >= expected
        return ready > self.readyz * expected
