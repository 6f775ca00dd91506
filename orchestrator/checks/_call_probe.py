"""A function as a probe."""

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ContextDecorator

import anyio

from orchestrator._hardening.arguments import refuse_generator, wrong_type
from orchestrator._hardening.text import MOST_NAME_CHARACTERS, one_line
from orchestrator._ports import Probe, ProbeResult, Target
from orchestrator._probing.call_session import CallProbe, failed, no_answer
from orchestrator._probing.cancellable import CancellableProbe
from orchestrator._runtime.clock import LoopClock
from orchestrator._runtime.tasks import came_by_signal, must_pass
from states import Failure

CallFunction = Callable[[], object] | Callable[[], Awaitable[object]]
"""Takes no arguments. It fails by returning False, or by raising."""


def call(function: CallFunction, *, name: str = "") -> Probe:
    """A probe that calls a function, sync or async.

    Example::

        Check("disk", call(lambda: shutil.disk_usage("/data").free > 1e9))

    The check holds if the function returns anything but False. An exception is a failure, of which
    only the type is shown. An async function runs on the event loop, and is cancelled when its time
    is up; a sync one runs in a thread of its own, and is left behind. What a sync one returns to be
    awaited, as `lambda: client.ping()` does, is awaited on the event loop.

    Args:
        function: A function without arguments.
        name: What is asked, as it appears in pages and traces; the function's name if not given.

    Raises:
        TypeError: When it is not a function.
    """
    given: object = function
    if not callable(given):
        raise wrong_type(given, "function", "a function", "write call(fn), without the parentheses")
    refuse_generator(function)
    shown = name or getattr(function, "__qualname__", type(function).__name__)
    target = Target(system=one_line(shown, MOST_NAME_CHARACTERS), operation="call")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004  an object with an async __call__
    ):
        return _AsyncCall(function, target)
    return _SyncCall(function, target)


class _Calling:
    """Runs in the thread, and keeps what remains to be awaited."""

    def __init__(self, function: CallFunction) -> None:
        self._function = function
        self.awaitable: Awaitable[object] | None = None

    def call(self) -> Failure | None:
        """Call it."""
        outcome = self._function()
        if inspect.isawaitable(outcome):
            _discard(self.awaitable)
            self.awaitable = outcome
            return None
        # Nothing was asked yet. A connection, which can be entered, too, was made by its function.
        if isinstance(outcome, AbstractAsyncContextManager):
            return _never_entered(outcome, "an async function with `async with` in it")
        if isinstance(outcome, ContextDecorator):  # made by `@contextmanager`
            return _never_entered(outcome, "a function with `with` in it")
        return _verdict(outcome)


class _SyncCall(CallProbe):
    def __init__(self, function: CallFunction, target: Target) -> None:
        self._calling = _Calling(function)
        super().__init__(self._calling.call, target)

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Call it in a thread, and await here what it returns, if that can be awaited."""
        began_at = LoopClock().now()
        result = await super().attempt(timeout_seconds)
        awaitable, self._calling.awaitable = self._calling.awaitable, None
        left_seconds = timeout_seconds - (LoopClock().now() - began_at)
        if awaitable is None or result.failure is not None or left_seconds <= 0:
            _discard(awaitable)
            return result

        async def awaited() -> object:
            return await awaitable

        with anyio.move_on_after(left_seconds):
            here = await _asked_here(awaited)
            used_seconds = timeout_seconds - left_seconds
            return ProbeResult(used_seconds + here.latency_seconds, here.failure)
        return ProbeResult(timeout_seconds, no_answer(timeout_seconds))

    async def aclose(self) -> None:
        """Let go of the thread, and of anything that was not awaited."""
        await super().aclose()
        _discard(self._calling.awaitable)


class _AsyncCall(CancellableProbe):
    def __init__(self, function: CallFunction, target: Target) -> None:
        self._function = function
        self._target = target

    @property
    def target(self) -> Target:
        """The function, by name."""
        return self._target

    async def ask(self) -> ProbeResult:
        """Call it."""
        return await _asked_here(self._function)


async def _asked_here(function: CallFunction) -> ProbeResult:
    """Call it on the event loop, until cancelled."""
    began_at = anyio.current_time()
    try:
        outcome = function()
        failure = _verdict(await outcome if inspect.isawaitable(outcome) else outcome)
    except BaseException as error:
        # `sys.exit` in a probe ends its attempt, and no more.
        if must_pass(error) and not (isinstance(error, SystemExit) and not came_by_signal(error)):
            raise
        failure = failed(type(error).__name__)
    return ProbeResult(anyio.current_time() - began_at, failure)


def _discard(awaitable: Awaitable[object] | None) -> None:
    """Close what will not be awaited, without a warning."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


def _never_entered(outcome: object, give: str) -> Failure:
    what = f"it returned a {type(outcome).__name__}, which nothing enters"
    return failed("TypeError", f"{what}; give {give}")


def _verdict(outcome: object) -> Failure | None:
    if outcome is None or outcome is True:  # nearly always
        return None
    if inspect.iscoroutine(outcome):
        outcome.close()
    elif not isinstance(outcome, Awaitable | Future | Generator | AsyncGenerator):
        return failed("False", "it said no") if outcome is False else None
    what = f"it returned a {type(outcome).__name__}"  # which says nothing yet
    return failed("TypeError", f"{what}; give an async function, which awaits it")
