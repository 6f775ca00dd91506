"""The little language in which a test says what Redis does.

Example::

    refused x3, loading 5s, ok, stall

Steps stand between commas. A step is a word of `WORDS`, and after it how often (`x3`) or for how
long (`5s`, `200ms`, `2min`); without either it happens once. The last step goes on for ever.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from states import Failure, FailureKind

_TRANSIENT, _PERMANENT = FailureKind.TRANSIENT, FailureKind.PERMANENT

REFUSED = Failure(_TRANSIENT, "ConnectionRefusedError", "nothing listens there")
"""A transient failure, as from a Redis that is not up yet."""

WRONG_PASSWORD = Failure(_PERMANENT, "AuthenticationError", "the password is wrong")
"""A permanent failure."""

STALLED = Failure(_TRANSIENT, "TimeoutError", "no answer in time")
"""What becomes of an attempt that gets no answer."""

WORDS: Mapping[str, Failure | None] = MappingProxyType(
    {
        "ok": None,
        "refused": REFUSED,
        "loading": Failure(_TRANSIENT, "BusyLoadingError", "Redis is still loading its data"),
        "closed": Failure(_TRANSIENT, "ConnectionClosed", "the connection was closed"),
        "unresolved": Failure(_TRANSIENT, "NameResolutionError", "the name cannot be resolved"),
        "crowded": Failure(_TRANSIENT, "MaxClients", "too many clients already", congestion=True),
        "stall": STALLED,
        "wrong-password": WRONG_PASSWORD,
        "not-redis": Failure(_PERMANENT, "InvalidResponse", "what answers is not Redis"),
    }
)
"""What Redis can do in a script, and the failure that an attempt ends with: `None` is success.
A `stall` takes an attempt's whole time; every other word answers at once."""

_STEP = re.compile(
    r"(?P<word>[a-z-]+)"
    r"(?:\s*x\s*(?P<times>[1-9]\d*)|\s+(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|min))?"
)
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0}


class ScriptError(ValueError):
    """A script that cannot be read. The text names the step and what is allowed."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a script.

    Attributes:
        failure: What attempts end with; `None` for success.
        times: How many attempts it is for, where it has no time.
        seconds: How long it lasts; `None` where attempts are counted.
    """

    failure: Failure | None
    times: int = 1
    seconds: float | None = None

    @property
    def stalls(self) -> bool:
        """Whether an attempt gets no answer at all."""
        return self.failure is STALLED


def steps(script: str | Iterable[Failure | str | None]) -> list[Step]:
    """The steps of a script, at least one.

    Args:
        script: Text, or a row of texts and of what single attempts give.

    Raises:
        ScriptError: When a text is not in the language.
    """
    parts = [script] if isinstance(script, str) else script
    found = [step for part in parts for step in _steps_of(part)]
    return found or [Step(None)]


def _steps_of(part: Failure | str | None) -> Iterator[Step]:
    if not isinstance(part, str):
        yield Step(part)
        return
    for text in part.split(","):
        yield _parse(text.strip())


def _parse(text: str) -> Step:
    match = _STEP.fullmatch(text)
    if match is None or match["word"] not in WORDS:
        raise ScriptError(
            f"{text!r} is no step of a script: write one of {', '.join(WORDS)}, and after it"
            " nothing, how often (x3) or for how long (5s, 200ms, 2min)"
        )
    seconds = float(match["number"]) * _UNIT_SECONDS[match["unit"]] if match["number"] else None
    return Step(WORDS[match["word"]], int(match["times"] or 1), seconds)
