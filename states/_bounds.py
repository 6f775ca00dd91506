"""Which numbers a field of the policy may have, in a form that is checked and read."""

from dataclasses import field

from states._records import record

_TOO_LARGE = 1e9
"""Some thirty years, in seconds: whatever is longer is a mistake."""


@record
class Bounds:
    """The numbers that a field may have; `str()` says them.

    Attributes:
        least: The smallest.
        most: The largest; where none is given, whatever is below 1e9.
        above: Whether it must be above `least`.
        whole: Whether it must be a whole number, however large.
    """

    least: float
    most: float | None = None
    above: bool = False
    whole: bool = False

    def hold(self, value: object) -> bool:
        """Whether the value is such a number."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        if not (value > self.least if self.above else value >= self.least):  # also NaN
            return False
        return self.whole or (value < _TOO_LARGE if self.most is None else value <= self.most)

    def refusal(self, value: object) -> str:
        """What to say of a value that is none."""
        too_large = isinstance(value, int | float) and value >= _TOO_LARGE
        return f"{self} and below 1e9" if too_large and self._open_ended else str(self)

    @property
    def _open_ended(self) -> bool:
        return self.most is None and not self.whole

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.most is not None:
            return f"{kind} from {self.least:g} to {self.most:g}"
        return f"{kind} above {self.least:g}" if self.above else f"{kind} of {self.least:g} or more"


def bounded(default: float, bounds: Bounds, why: str) -> float:
    """A field with these bounds, and why it is there."""
    return field(default=default, metadata={"why": why, "allowed": str(bounds), "bounds": bounds})


def positive(default: float, why: str) -> float:
    """A field above 0."""
    return bounded(default, Bounds(0, above=True), why)


def not_negative(default: float, why: str) -> float:
    """A field of 0 or more."""
    return bounded(default, Bounds(0), why)


WHOLE = Bounds(1, whole=True)
"""What is counted."""
