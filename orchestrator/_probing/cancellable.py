"""A probe of plain async code, which ends wherever it is cancelled."""

from abc import abstractmethod

import anyio

from orchestrator._ports import Probe, ProbeResult
from states import Failure, FailureKind


class CancellableProbe(Probe):
    """A probe without a deadline of its own. Subclass it and write `ask`.

    The prober cancels every attempt in time anyway; so it calls `ask`, and saves a scope and a
    timer, which cost as much as the rest of an attempt.
    """

    @abstractmethod
    async def ask(self) -> ProbeResult:
        """Ask once, until cancelled."""

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Ask once, for at most `timeout_seconds`."""
        with anyio.move_on_after(timeout_seconds):
            return await self.ask()
        reason = f"no answer within {timeout_seconds:g} s"
        return ProbeResult(timeout_seconds, Failure(FailureKind.TRANSIENT, "TimeoutError", reason))
