"""The drain as an application uses it; part of `Orchestrator`. `drain.py` has its phases."""

from functools import partial
from typing import TypeVar

from orchestrator._core.drain import Drainable, DrainCallback, DrainParts
from orchestrator._core.life import Life
from orchestrator._core.readable_state import ReadableState
from orchestrator._errors import NotRunning
from orchestrator._hardening.arguments import wrong_type
from orchestrator._hardening.text import reason_of
from orchestrator._runtime.event_loop import Call, CancelledError
from states import Policy

CallbackT = TypeVar("CallbackT", bound=DrainCallback)


class DrainAccess(ReadableState):
    """The part of an `Orchestrator` that drains a service.

    Attributes:
        drains_at_signals: Whether something begins the drain at SIGTERM, such as a gate.
    """

    drains_at_signals: bool = False
    policy: Policy
    _drain_parts: DrainParts

    @property
    def draining(self) -> bool:
        """Whether the drain of this start-up has begun. From any thread."""
        return self._life is not None and self._life.drain.began_at is not None

    @property
    def refuses(self) -> bool:
        """Whether a drain is past its announcement, so that nothing new is taken."""
        return self._life is not None and self._life.drain.refuses

    async def drain(
        self, reason: str = "asked by the application", *, announce: bool = True
    ) -> None:
        """End the service's work: announce it, take nothing new, close WebSockets; wait for it.

        `/readyz` fails at once, and the callbacks of `on_drain` run. New requests are served for
        `drain_announce_seconds` more; then they are refused, and open WebSockets are closed with
        1012, spread evenly over `drain_close_seconds`. It returns once all requests have ended, and
        after `drain_limit_seconds` at most; all three are fields of `Policy`. A second call waits
        for the drain that is under way. Gates begin it at SIGTERM and SIGINT. Cancelling the call
        only stops the waiting. Don't await it in a request handler: the drain waits for that
        request.

        Args:
            reason: Why, in a few words, for log and trace. No secrets.
            announce: False where no new request can arrive any more, as the port is closed.

        Raises:
            NotRunning: Before the orchestrator is entered. Once it was left, it returns at once.
        """
        life, why = self._life, reason_of(reason)
        if life is None:
            raise NotRunning("the orchestrator does not run yet, so there is nothing to drain")
        if life.loop.is_current:
            await _drain_here(life, why, announce)
            return
        try:
            await Call(partial(_drain_here, life, why, announce), life.loop).wait()
        except CancelledError:
            return  # its event loop has ended, and with it all that ran there

    async def drained(self) -> None:
        """Wait for the end of a drain, whenever that begins; on the orchestrator's event loop."""
        if self._life is not None:
            await self._life.drain.wait()

    def cut_drain_short(self, why: str) -> None:
        """End a drain that is under way, from any thread."""
        if (life := self._life) is not None:
            life.cut_drain_short(why)

    def drain_needed(self) -> bool:
        """Whether a signal now would begin a drain with anything to do. From any thread."""
        if not (self.drains_at_signals and self.running and self.drain_seconds_left()):
            return False
        return self.policy.drain_announce_seconds > 0 or self._drain_parts.needed

    def on_drain(self, callback: CallbackT) -> CallbackT:
        """Decorate a plain or async function without arguments, to be called as a drain begins.

        Example::

            @startup.on_drain
            async def say_goodbye() -> None: ...

        All run side by side, before any WebSocket is closed, and may take until
        `drain_close_seconds` before the limit; they are cancelled then. What one raises is logged,
        `sys.exit()` too. Plain functions must not block. Registered once, it is called in every
        start-up.

        Raises:
            TypeError: When it is not a function.
        """
        if not callable(callback):
            raise wrong_type(callback, "the callback", "a function", "write @startup.on_drain")
        self._drain_parts.callbacks.append(callback)
        return callback

    def drain_with(self, one: Drainable) -> None:
        """Let something take part in each drain, such as a gate."""
        self._drain_parts.drainables.append(one)

    def drain_seconds_left(self) -> float:
        """The longest that a drain, begun now or already, can still take. From any thread."""
        return 0.0 if self._life is None else self._life.drain_seconds_left()


async def _drain_here(life: Life, reason: str, announce: bool) -> None:
    life.begin_drain(reason, announce=announce)
    await life.drain.wait()
