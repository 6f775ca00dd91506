"""What another process tells as JSON: read strictly, and shown without doing harm.

The text may come from anybody who listens at the address. None of it is used before its type and
size are known, and none reaches a terminal with a control character in it.
"""

import json
import math
from collections.abc import Mapping

from orchestrator._hardening.text import one_line

_MOST_LEVELS = 16
"""What a service tells has four levels."""

_MOST_SECONDS = 1e12


def read_object(text: str | bytes) -> Mapping[str, object] | None:
    """The JSON object in a text; `None` where it is something else, or nested without end."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _is_shallow(value) else None


def _refuse(constant: str) -> object:
    raise ValueError(constant)  # JSON has neither NaN nor infinities


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("beyond every number")
    return number


def _is_shallow(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(_MOST_LEVELS):
        inner: list[object] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.values()
            elif isinstance(one, list):
                inner += one
        level = inner
    return not level


def json_line(value: Mapping[str, object]) -> str:
    """JSON in one line of printable ASCII; `json` alone leaves DEL as it is."""
    return json.dumps(value).replace("\x7f", "\\u007f")


def shown(value: object) -> str:
    """A value for a person: one printable line, whatever it is."""
    return one_line(value if isinstance(value, str) else json.dumps(value))


def number(value: object) -> float | None:
    """A number of seconds; `None` for anything else, and for what is beyond all seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -_MOST_SECONDS < value < _MOST_SECONDS else None


def listed(value: object) -> list[str]:
    """The items of a list for a person; none where it is no list."""
    return [shown(one) for one in value] if isinstance(value, list) else []
