"""Refusing what is of the wrong type where it is given, instead of failing over it later."""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

MOST_PORT = 65_535
"""The highest port that there is."""

_T = TypeVar("_T")


def require(value: object, kind: type[_T], name: str, remedy: str) -> _T:
    """The value, if it is of the type that it should be.

    Args:
        value: What was given. It is never shown, since it may be a secret.
        kind: What it must be an instance of.
        name: What the argument is called.
        remedy: What to write instead.

    Raises:
        TypeError: When it is something else.
    """
    if isinstance(value, kind):
        return value
    raise wrong_type(value, name, kind.__name__, remedy)


def require_flag(value: object, name: str, remedy: str = "write True or False") -> bool:
    """The value, if it is a bool: of anything else that is not empty Python makes True.

    Raises:
        TypeError: When it is something else.
    """
    return require(value, bool, name, remedy)


def require_items(value: object, name: str, wanted: str, remedy: str) -> Iterable[object]:
    """The value, if it is something with items, and no text or mapping.

    Raises:
        TypeError: When it is something else.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise wrong_type(value, name, wanted, remedy)
    return value


def paths_of(given: Collection[str]) -> frozenset[str]:
    """The paths that pass a gate in every stage.

    Raises:
        TypeError: When it is no collection of `str`.
        ValueError: When it is a single path.
    """
    if isinstance(given, str):
        raise ValueError("bypass must be a collection of paths: write bypass=['/path']")
    write = "write bypass=['/path']"
    paths = require_items(given, "bypass", "a collection of paths", write)
    return frozenset(require(path, str, "a path", write) for path in paths)


def wrong_type(value: object, name: str, wanted: str, remedy: str) -> TypeError:
    """The error for a value of the wrong type; the value itself is not in it."""
    given = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    return TypeError(f"{name} must be {_with_article(wanted)}, not {given}: {remedy}")


def refuse_generator(function: Callable[..., object]) -> None:
    """Refuse a function with `yield`: nothing would run it.

    Raises:
        TypeError: When it is one.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("function has a yield, and so does nothing when it is called: take it out")


def _with_article(noun: str) -> str:
    return noun if " " in noun else f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"
