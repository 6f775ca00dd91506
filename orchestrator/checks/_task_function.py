"""Which functions can be tasks; others are refused at once, before they can block the event loop.

A plain `def` with a blocking loop would freeze the whole application, and in a thread it could not
be stopped. What a plain function does cannot be seen from outside. So a function that is not async
is refused, unless its annotation says that it returns an awaitable, or it is a lambda, as in
`lambda: consume("jobs")`, which has no annotations.
"""

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from types import FunctionType, MethodType

from orchestrator._hardening.arguments import refuse_generator, wrong_type

TaskFunction = Callable[..., Awaitable[object]]
"""An async function without arguments; it may take anyio's `task_status`."""

_AWAITABLE = re.compile(r"\b(?:Awaitable|Coroutine|Future|Task)\b")
"""Words in the annotation of a plain function that returns an awaitable."""


def checked_function(name: str, function: TaskFunction) -> TaskFunction:
    """The function, if it can be a task.

    Args:
        name: The task's.
        function: What was given.

    Raises:
        TypeError: When it is not a function, has a `yield`, is not async, or takes other arguments.
    """
    given: object = function
    if not callable(given):
        write = f"write Task({name!r}, listen), without the parentheses"
        raise wrong_type(given, "function", "an async function", write)
    refuse_generator(function)
    if _is_surely_sync(function):
        raise TypeError(
            "function is not async, and would block the event loop: write async def, and in it"
            " await anyio.to_thread.run_sync(...) for what blocks; one that returns an awaitable"
            " says so in its annotation"
        )
    _refuse_arguments(function)
    return function


def parameters_of(function: TaskFunction) -> Iterable[str]:
    """The names of what it takes."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in functions have no signature
        return ()


def _is_surely_sync(given: object) -> bool:
    """Whether it is a plain function, whatever it is wrapped in, that returns nothing to await."""
    while not inspect.iscoroutinefunction(given):
        match given:
            case functools.partial():
                given = given.func
            case MethodType():
                given = given.__func__
            case FunctionType() if hasattr(given, "__wrapped__"):
                given = given.__wrapped__  # by functools.wraps
            case FunctionType():
                returned = str(given.__annotations__.get("return", ""))
                return given.__name__ != "<lambda>" and not _AWAITABLE.search(returned)
            case type():
                return not hasattr(given, "__await__")
            case _ if isinstance(own := getattr(type(given), "__call__", None), FunctionType):  # noqa: B004  its own, to look into
                given = own
            case _:
                return False  # in C, or a stand-in: it says nothing of itself
    return False


def _refuse_arguments(function: TaskFunction) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    status = {"task_status": None} if "task_status" in signature.parameters else {}
    try:
        signature.bind(**status)
    except TypeError as error:
        raise TypeError(
            f"function may take nothing but task_status: {error}; bind its other arguments with"
            " functools.partial(...)"
        ) from None
