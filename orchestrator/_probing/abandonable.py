"""Blocking questions in a daemon thread that nobody waits for.

A blocking call cannot be cancelled, and the event loop's worker threads are the application's and
hold up its exit. So a probe that blocks has a thread of its own, at most one at a time: an attempt
whose time is up leaves the call behind, and the next attempt waits for that to end instead of
starting another beside it. If it ends well, that is the answer; else it is asked anew. A call that
never returns costs one thread, and the process ends without it.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable

import anyio

from orchestrator._ports import Probe, ProbeResult
from orchestrator._runtime.event_loop import EventLoop
from states import Failure, FailureKind

Ask = Callable[[float], Failure | None]
"""Blocks until there is an answer, or the deadline (by `time.monotonic`) is over. It says why it
failed, or `None`. An exception is a transient failure of which only the type is shown."""


class _BlockingCall:
    """One blocking call in a thread of its own."""

    def __init__(self, ask: Ask, deadline: float, name: str) -> None:
        self.done = anyio.Event()
        self.failure: Failure | None = None
        self.seconds = 0.0
        self._process = os.getpid()
        self.loop = EventLoop()
        self._ask = ask
        self._deadline = deadline
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def is_ours(self) -> bool:
        """Whether it runs in this process, and tells this event loop."""
        return self._process == os.getpid() and self.loop.is_current

    def _run(self) -> None:
        began_at = time.perf_counter()
        try:
            self.failure = self._ask(self._deadline)
        except BaseException as error:
            # `sys.exit` in a probe ends its attempt, and no more.
            self.failure = failed(type(error).__name__)
        self.seconds = time.perf_counter() - began_at
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
            self.loop.call(self.done.set)


class AbandonableProbe(Probe):
    """A probe whose question blocks. Subclass it and write `ask`."""

    def __init__(self) -> None:
        self._call: _BlockingCall | None = None

    def ask(self, deadline: float) -> Failure | None:
        """Ask once, in a thread: block until there is an answer, or the deadline is over.

        Args:
            deadline: By `time.monotonic`.
        """
        raise NotImplementedError

    def give_up(self) -> None:
        """End what `ask` waits for, if that can be done; called on the event loop."""

    def timed_out(self, timeout_seconds: float) -> Failure:
        """Why there is no answer in time; called on the event loop, before `give_up`."""
        return failed("TimeoutError", f"no answer within {timeout_seconds:g} s")

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Ask, or wait for what an earlier attempt has asked."""
        deadline = time.monotonic() + timeout_seconds
        with anyio.move_on_after(timeout_seconds):
            call = await self._left_behind()
            if call is None or call.failure is not None:  # which may be what `give_up` did to it
                call = self._call = _BlockingCall(self.ask, deadline, "startup-check")
                await call.done.wait()
            self._call = None
            return ProbeResult(call.seconds, call.failure)
        failure = self.timed_out(timeout_seconds)
        self.give_up()
        return ProbeResult(timeout_seconds, failure)

    async def _left_behind(self) -> _BlockingCall | None:
        """What an earlier attempt has asked and did not wait for, once it has ended."""
        call = self._call
        if call is None or call.done.is_set() or not call.is_ours:
            return None  # an answer that came when nobody waited for it is an old one
        await call.done.wait()
        return call


def failed(error_type: str, reason: str = "", *, permanent: bool = False) -> Failure:
    """A failure in our own words; without any, by the type of the exception alone."""
    kind = FailureKind.PERMANENT if permanent else FailureKind.TRANSIENT
    return Failure(kind, error_type, reason or f"it ended with {error_type}")
