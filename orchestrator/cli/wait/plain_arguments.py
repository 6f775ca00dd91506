"""`wait` as it is written nearly everywhere, read without Typer.

A container that waits pays for each import before its first attempt, and Typer takes longer to load
and to convert these few words than all that `wait` itself needs. What is not plain is left to it:
help, completion, mistakes, and whatever it may know of more.
"""

from collections.abc import Sequence
from typing import Any

_FLAGS = {"--quiet": "quiet", "-q": "quiet", "--account": "account", "--json": "json"}
_TEXTS = {"--redis": "redis"}
_LISTS = {"--check": "check", "--optional": "optional"}
_TIMEOUT = "--timeout"


def plain_arguments(words: Sequence[str]) -> dict[str, Any] | None:
    """What `wait` is given, by the names of its parameters; `None` where that is not plain."""
    given: dict[str, Any] = {}
    left = list(words)
    while left and left[0].startswith("-"):
        word = left.pop(0)
        if word == "--":
            break
        if word in _FLAGS:
            given[_FLAGS[word]] = True
            continue
        option, joined, value = word.partition("=")
        if not joined and left:
            value = left.pop(0)
        if not value or value.startswith("-") or not _take(option, value, given):
            return None
    return {**given, "command": left}


def _take(option: str, value: str, given: dict[str, Any]) -> bool:
    """Add a plain option that has a value; whether it is one."""
    if option in _TEXTS:
        given[_TEXTS[option]] = value
    elif option in _LISTS:
        given.setdefault(_LISTS[option], []).append(value)
    elif option == _TIMEOUT and _is_plain_number(value):
        given["timeout"] = float(value)
    else:
        return False
    return True


def _is_plain_number(text: str) -> bool:
    digits = text.replace(".", "", 1)
    return text.isascii() and digits.isdigit() and text[0] != "." != text[-1]
