"""One attempt on its way through the worker's thread, and how it ended."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

import anyio

from states import Failure


class IfLate(Enum):
    """What an answer that comes after its attempt means for the next question."""

    COUNTS = auto()
    """A late failure answers it. After a late success it is asked, on a connection that works."""
    ANSWERS_WAITING = auto()
    """It answers a question that waited for it. Any later question is asked."""
    SAYS_NOTHING = auto()
    """Nothing: the question is asked. Time was up, say, and that is all that is known."""

    def answers(self, failure: Failure | None, waited: bool) -> bool:
        """Whether this also answers the next question, which may have waited for it."""
        return waited if self is IfLate.ANSWERS_WAITING else failure is not None


class Answer(NamedTuple):
    """How a question ended.

    Attributes:
        failure: Why it failed; `None` for a success.
        if_late: What it means for the next question, if it came too late for its own.
        void: Whether it says nothing about the server, because this process did not run.
    """

    failure: Failure | None
    if_late: IfLate = IfLate.COUNTS
    void: bool = False


class Question:
    """One attempt on its way through the worker. Created and awaited on the event loop.

    Args:
        timeout_seconds: How long the attempt may take.
        patience_seconds: How long a new connection that was accepted may take, if longer.
        used_seconds: How much of its time has been used already, without the thread.

    Attributes:
        answered: Set on the event loop once the answer is there.
        answer: How it ended; `None` until then.
        started_at: When it began, or began to wait for the one before, by `time.perf_counter`; 0
            until then.
        finished_at: When it ended.
        given_up: Whether its attempt is over.
    """

    def __init__(
        self, timeout_seconds: float, patience_seconds: float = 0.0, used_seconds: float = 0.0
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.patience_seconds = patience_seconds
        self.deadline = time.monotonic() + timeout_seconds - used_seconds
        self.answered = anyio.Event()
        self.answer: Answer | None = None
        self.started_at = time.perf_counter() - used_seconds if used_seconds else 0.0
        self.finished_at = 0.0
        self.given_up = False
        self._call_on_loop = _loop_caller()

    def start(self) -> None:
        """Begin: its time counts from here, unless it had to wait for another question.

        A thread that had to wait for the interpreter has not asked anything yet.
        """
        if not self.started_at:
            self.started_at = time.perf_counter()
            self.deadline = time.monotonic() + self.timeout_seconds

    def finish(self, answer: Answer) -> None:
        """Fill in the answer and wake the event loop. Called in the worker."""
        self.finished_at = time.perf_counter()
        self.answer = answer  # Last: with it, the event loop knows that the rest is there.
        # The loop may have ended in the meantime; then no one waits. Trio's error is one too.
        with contextlib.suppress(RuntimeError):
            self._call_on_loop(self.answered.set)


def _loop_caller() -> Callable[[Callable[[], None]], object]:
    """What other threads call to run a function on the event loop of this thread."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return asyncio.get_running_loop().call_soon_threadsafe
    import trio  # needed on its own event loop only

    return trio.lowlevel.current_trio_token().run_sync_soon
