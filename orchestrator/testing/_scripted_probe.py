"""A probe that follows a script."""

import math
from collections.abc import Iterable

import anyio
import anyio.lowlevel

from orchestrator._ports import Clock, Probe, ProbeResult
from orchestrator._runtime.clock import LoopClock
from orchestrator.testing._script import Step, steps
from states import Failure


class ScriptedProbe(Probe):
    """Answers as its script says, then repeats the last step for ever.

    Example::

        ScriptedProbe("refused x3, loading 5s, ok, stall")
        ScriptedProbe([REFUSED, None])

    A step that lasts begins when the one before it has ended. When an `ok` that lasts has ended,
    the orchestrator notices at once, as it notices a connection that is closed.

    Args:
        script: Text in the language of `orchestrator.testing.WORDS`, or what each attempt gives:
            `None` is a success, a `Failure` is that failure.
        clock: Where the time of steps comes from; the event loop's if not given. Give it the
            orchestrator's own.

    Attributes:
        attempts: How many attempts there have been.
        closed: Whether it was closed after the last attempt.

    Raises:
        ScriptError: When the text is not in the language.
    """

    def __init__(
        self,
        script: str | Iterable[Failure | str | None] = (None,),
        *,
        clock: Clock | None = None,
    ) -> None:
        self._clock: Clock = clock or LoopClock()
        self._steps = steps(script)
        self._taken = 0
        self._began_at: float | None = None
        self._replaced = False
        self._changed: anyio.Event | None = None  # before an event loop runs there can be none
        self.attempts: int = 0
        self.closed: bool = False

    def then(self, *script: Failure | str | None) -> None:
        """Replace what is left of the script, and let the orchestrator notice at once.

        Raises:
            ScriptError: When a text is not in the language.
        """
        self._steps = steps(script)
        self._taken, self._began_at = 0, None
        self._replaced = True
        if self._changed is not None:
            self._changed.set()

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Give what the script says now."""
        await anyio.lowlevel.checkpoint()
        self.attempts += 1
        self._replaced = self.closed = False
        step = self._take()
        if not step.stalls:
            return ProbeResult(0.0, step.failure)
        with self._clock.cancel_at(self._clock.now() + timeout_seconds):
            await anyio.sleep_forever()
        return ProbeResult(timeout_seconds, step.failure)

    async def changed(self) -> None:
        """Return when the script was replaced, or an `ok` that lasts has ended."""
        if not self._replaced:
            self._changed = changed = anyio.Event()
            with self._clock.cancel_at(self._ok_ends_at()):
                await changed.wait()
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def _take(self) -> Step:
        """The step that the next attempt is for."""
        now = self._clock.now()
        self._began_at = now if self._began_at is None else self._began_at
        while len(self._steps) > 1:
            step = self._steps[0]
            if step.seconds is None and self._taken < step.times:
                self._taken += 1
                if self._taken == step.times:
                    self._next(now)
                return step
            if step.seconds is not None:
                ends_at = self._began_at + step.seconds
                if now < ends_at:
                    return step
                self._next(ends_at)
        return self._steps[0]

    def _next(self, at: float) -> None:
        del self._steps[0]
        self._taken, self._began_at = 0, at

    def _ok_ends_at(self) -> float:
        step = self._steps[0]
        if step.failure is None and step.seconds is not None and len(self._steps) > 1:
            return (self._clock.now() if self._began_at is None else self._began_at) + step.seconds
        return math.inf
