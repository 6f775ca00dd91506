"""Any blocking function as a probe: it runs in the probe's own thread.

When its time is up it is left behind, but never started twice: the next attempt waits for it to
end. If it succeeds, that is the answer; otherwise the function is called again. A call that never
returns costs one thread, and the process ends without it.
"""

import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from orchestrator._ports import Probe, Target
from orchestrator._probing.blocking_probe import BlockingProbe
from orchestrator._probing.interruption import Interruption
from orchestrator._probing.question import Answer, IfLate
from states import Failure, FailureKind

BlockingCall = Callable[[], Failure | None]
"""Says why it failed, or `None`. An exception is a transient failure of which only the type is
shown."""


class _NoInterruption(Interruption):
    def interrupt(self) -> None:
        """A function goes on to its end, which may be the answer to the next attempt."""


class CallSession:
    """A function, asked as if it were a connection.

    Args:
        function: It may block for as long as it likes.
    """

    accepted_at = 0.0
    is_endless = True
    waits_since = math.inf
    held_seconds = 0.0

    def __init__(self, function: BlockingCall) -> None:
        self.interruption: Interruption = _NoInterruption()
        self._function = function

    def ask(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> Answer:
        """Call it."""
        try:
            failure = self._function()
        except BaseException as error:
            # `sys.exit` in a probe ends its attempt, and no more.
            failure = failed(type(error).__name__)
        return Answer(failure, IfLate.ANSWERS_WAITING if failure is None else IfLate.SAYS_NOTHING)

    def timed_out(self, timeout_seconds: float) -> Failure:
        """What is missing of an attempt whose time is up."""
        return no_answer(timeout_seconds)

    def close(self) -> None:
        """There is no connection."""

    def abandon(self) -> None:
        """There is no connection."""


class CallProbe(BlockingProbe[CallSession]):
    """A probe whose question is a function that blocks.

    Args:
        function: It must not refer to the probe.
        target: What it asks, for telemetry.
    """

    # A call that ends late must not be repeated before it is due.
    changed: Callable[..., Coroutine[Any, Any, None]] = Probe.changed

    def __init__(self, function: BlockingCall, target: Target) -> None:
        super().__init__(partial(CallSession, function), "startup-check")
        self._target = target

    @property
    def target(self) -> Target:
        """What is asked."""
        return self._target


def failed(error_type: str, reason: str = "") -> Failure:
    """A failure in our own words, or with only the exception's type if there are none."""
    reason = reason or f"it ended with {error_type}"
    return Failure(FailureKind.TRANSIENT, error_type, reason)


def no_answer(timeout_seconds: float) -> Failure:
    """The failure of an attempt whose time is up."""
    return failed("TimeoutError", f"no answer within {timeout_seconds:g} s")
