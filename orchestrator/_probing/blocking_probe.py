"""A probe whose work blocks, on any event loop: a driver, or sockets of our own.

A subclass gives it a `Session`: one connection with an `ask` that keeps its deadline. What can be
asked without waiting is asked on the event loop itself, by a `LoopAsker`. All else happens in the
thread of a `Worker`; this side waits for the answer, and decides what it means if none has come:

- The thread has not run in time, so it could not say so itself. It gets `overtime_seconds`.
- It is in something that cannot be interrupted, or goes on with a connection that was accepted. The
  attempt has failed, and the next one joins what is under way.

If this process was late, so that the server did not have its full time, the attempt says nothing
about the server: it is void.
"""

import math
import selectors
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar, cast

import anyio
import anyio.lowlevel

from orchestrator._ports import ProbeResult
from orchestrator._probing.in_steps import InSteps, Steps
from orchestrator._probing.loop_asker import HERE_SECONDS, LoopAsker, can_ask_here
from orchestrator._probing.question import Question
from orchestrator._probing.readable import wait_readable
from orchestrator._probing.watched_probe import EndWatching, WatchedProbe, on_readable
from orchestrator._probing.worker import Session, Worker
from states import Failure, Policy

_HEAD_START_SECONDS = 0.03
"""How much longer than the worker the event loop waits. The worker knows better what is missing,
and keeps a connection on which a late answer may still come."""

_LATE_SECONDS = 0.1
"""An event loop that ends an attempt so much too late did not get to run; nor did a thread that
took so much of the attempt itself."""

_SessionT = TypeVar("_SessionT", bound=Session)


def held_up(failure: Failure, seconds: float) -> Failure:
    """The same failure, with a note that this process did not run in time."""
    reason = f"{failure.reason}; this process itself was late by {seconds:.3g} s"
    return replace(failure, reason=reason)


def had_its_time(waited_seconds: float, timeout_seconds: float) -> bool:
    """Whether a server has had as long as it may take, but for the moments that it takes to ask."""
    return waited_seconds >= 0.9 * timeout_seconds


class BlockingProbe(WatchedProbe, Generic[_SessionT]):
    """Asks with a session of its own, in a thread that delays neither cancellation nor an exit.

    Args:
        make_session: Makes a session without a connection. It must not refer to the probe.
        thread_name: What the thread is called.
    """

    overtime_seconds: float = 10.0

    def __init__(self, make_session: Callable[[], _SessionT], thread_name: str) -> None:
        self._make_session = make_session
        self._thread_name = thread_name
        self._patience_seconds = Policy().answer_patience_seconds
        self._open()

    def _open(self) -> None:
        self._closed = self._is_slow = False
        self._asker = LoopAsker()
        self._worker = Worker(self._make_session, self._thread_name)
        # A probe that is dropped without `aclose` must not leave its thread behind. At the end of
        # the process there is nothing to do: the thread is a daemon.
        self._let_go = weakref.finalize(self, _let_go, self._asker, self._worker)
        self._let_go.atexit = False

    def prepare(self, policy: Policy) -> None:
        """Take over `answer_patience_seconds`."""
        self._patience_seconds = policy.answer_patience_seconds

    async def attempt(self, timeout_seconds: float) -> ProbeResult:
        """Ask once, for at most `timeout_seconds` in total.

        Raises:
            ValueError: When `timeout_seconds` is not a positive number.
        """
        if not 0 < timeout_seconds < math.inf:
            raise ValueError(f"timeout_seconds is {timeout_seconds!r}; it must be above 0")
        if self._closed:
            self._open()
        began_at, used_seconds = time.perf_counter(), 0.0
        if (steps := self._lent_steps()) is not None:
            result = await self._asked_here(steps, timeout_seconds)
            if result is not None:
                return result
            used_seconds = time.perf_counter() - began_at
        self._asker.let_go()  # from here on the thread reads what comes
        allowed = timeout_seconds + _HEAD_START_SECONDS - used_seconds
        question = Question(timeout_seconds, self._patience_seconds, used_seconds)
        self._worker.submit(question)
        try:
            with anyio.move_on_after(allowed):
                await question.answered.wait()
            late_seconds = time.perf_counter() - began_at - used_seconds - allowed
            is_held_up = question.answer is None and self._worker.is_held_up
            if is_held_up:
                # It will say so itself once it runs. Ending it now would break a connection on
                # which the answer may be there.
                with anyio.move_on_after(self.overtime_seconds):
                    await question.answered.wait()
        finally:
            self._worker.give_up(question)
        if (answer := question.answer) is not None:
            latency_seconds = question.finished_at - question.started_at
            lag_seconds = time.perf_counter() - question.finished_at
            self._is_slow = self._is_slow and latency_seconds >= HERE_SECONDS
            return ProbeResult(latency_seconds, answer.failure, lag_seconds, answer.void)
        took_seconds = time.perf_counter() - began_at
        failure = self._worker.session.timed_out(timeout_seconds)
        # In this order: if the thread takes something meanwhile, its wait is over.
        has_come = self._has_come()
        waits_since = self._worker.session.waits_since
        void = not waits_since or (waits_since < math.inf and has_come)
        late_seconds = max(late_seconds, self._worker.session.held_seconds)
        if not is_held_up and late_seconds <= _LATE_SECONDS:
            return ProbeResult(took_seconds, failure, void=void)
        void = void or not had_its_time(time.monotonic() - waits_since, timeout_seconds)
        return ProbeResult(took_seconds, held_up(failure, late_seconds), void=void)

    def _lent_steps(self) -> Steps | None:
        """How to ask without the thread; `None` where that cannot be, or might take its time."""
        if self._is_slow or not can_ask_here():
            return None
        session: object = self._worker.lend()
        steps = session.steps() if isinstance(session, InSteps) else None
        if session is not None and steps is None:
            self._worker.take_back()
        return steps

    async def _asked_here(self, steps: Steps, timeout_seconds: float) -> ProbeResult | None:
        """Ask on the event loop; `None` where the thread has to go on, or to ask again."""
        session = self._worker.session
        try:
            if not self._asker.holds:
                self._asker.hold(session.interruption.watch())
            asked = await self._asker.ask(cast("InSteps", session), steps, timeout_seconds)
        finally:
            self._worker.take_back()
            if not session.interruption.has_socket:  # it was closed, and this is a part of it
                self._asker.let_go()
        self._is_slow = asked.answer is None
        if asked.answer is None:
            return None
        return ProbeResult(asked.latency_seconds, asked.answer.failure, asked.lag_seconds)

    def _has_come(self) -> bool:
        """Whether there is something from the server that the thread has not taken yet."""
        handle = self._worker.session.interruption.watch()
        if handle is None:
            return False
        with handle, selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            return bool(selector.select(0))

    async def changed(self) -> None:
        """Return when the connection was closed by the other side, or a late answer has come."""
        if (outlasting := self._worker.outlasting) is not None:
            await outlasting.answered.wait()
        if self._worker.has_news:
            await anyio.lowlevel.checkpoint()
            return
        handle = None if self._worker.busy else self._worker.session.interruption.watch()
        if handle is None:
            await self._changed_without_connection()
            return
        try:
            await wait_readable(handle)
        finally:
            handle.close()

    def watch(self, changed: Callable[[], object]) -> EndWatching | None:
        """Have a function called once, when the connection is closed by the other side."""
        if self._asker.watch(changed):
            return self._asker.unwatch
        worker = self._worker
        idle = not worker.busy and not worker.has_news
        handle = worker.session.interruption.watch() if idle else None
        return None if handle is None else on_readable(handle, changed)

    async def _changed_without_connection(self) -> None:
        """Return when an attempt may succeed that finds no connection open; by default, never."""
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        """Close the connection and let the thread go, at once. A later attempt connects anew."""
        self._closed = True
        self._let_go()  # and forget it: the worker need not live as long as the probe


def _let_go(asker: LoopAsker, worker: Worker[_SessionT]) -> None:
    asker.let_go()
    worker.stop()
