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
    """What an answer that comes after its attempt means to the next question."""

    COUNTS = auto()
    """A failure answers it. After a success it is asked, on a connection that answers."""
    ANSWERS_WAITING = auto()
    """It answers a question that has waited for it; any later one is asked."""
    SAYS_NOTHING = auto()
    """The question is asked: there was no answer in time, say, and no more is known."""

    def answers(self, failure: Failure | None, waited: bool) -> bool:
        """Whether the next question need not be asked, which may have waited for this end."""
        return waited if self is IfLate.ANSWERS_WAITING else failure is not None


class Answer(NamedTuple):
    """How a question ended.

    Attributes:
        failure: Why it failed; `None` for a success.
        if_late: What it means after its attempt.
        void: Whether this process did not run meanwhile, so that it says nothing at all.
    """

    failure: Failure | None
    if_late: IfLate = IfLate.COUNTS
    void: bool = False


class Question:
    """One attempt on its way through the worker. Made and awaited on the event loop.

    Args:
        timeout_seconds: How long the attempt may take.
        patience_seconds: How long a new connection that was accepted may take, if longer.

    Attributes:
        answered: Set on the event loop once the answer is there.
        answer: How it ended; `None` until then.
        started_at: When it began, or began to wait for one before it, by `time.perf_counter`; 0
            until then.
        finished_at: When it ended.
        given_up: Whether its attempt is over.
    """

    def __init__(self, timeout_seconds: float, patience_seconds: float = 0.0) -> None:
        self.timeout_seconds = timeout_seconds
        self.patience_seconds = patience_seconds
        self.deadline = time.monotonic() + timeout_seconds
        self.answered = anyio.Event()
        self.answer: Answer | None = None
        self.started_at = 0.0
        self.finished_at = 0.0
        self.given_up = False
        self._call_on_loop = _loop_caller()

    def start(self) -> None:
        """The thread is free for it: its time counts from here, unless it has waited.

        A thread that was kept waiting for the interpreter has not asked anything yet.
        """
        if not self.started_at:
            self.started_at = time.perf_counter()
            self.deadline = time.monotonic() + self.timeout_seconds

    def finish(self, answer: Answer) -> None:
        """Fill in the answer and wake the event loop. Called in the worker."""
        self.finished_at = time.perf_counter()
        self.answer = answer  # Last: it says that the other is there.
        # The loop may have ended in the meantime; then no one waits. Trio's error is one too.
        with contextlib.suppress(RuntimeError):
            self._call_on_loop(self.answered.set)


def _loop_caller() -> Callable[[Callable[[], None]], object]:
    """How another thread gets a function called on the event loop that runs here."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return asyncio.get_running_loop().call_soon_threadsafe
    import trio  # needed on its own event loop only

    return trio.lowlevel.current_trio_token().run_sync_soon
