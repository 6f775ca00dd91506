"""A daemon thread of our own for the blocking side of the probe.

The event loop's worker threads will not do: they delay cancellation, and the end of the process,
until the blocking call returns by itself. This one is never waited for.
"""

import asyncio
import contextlib
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import anyio

from states import Failure


class Session(Protocol):
    """What the thread asks with: one connection, kept from question to question.

    Attributes:
        held_up: Whether the last question failed for want of time in which the thread did not run.
        interrupted: Whether the question under way was interrupted.
        outlasts: Whether what is under way goes on after its attempt, since it was accepted.
        is_endless: Whether no deadline can end what is under way.
    """

    held_up: bool

    @property
    def interrupted(self) -> bool: ...

    @property
    def outlasts(self) -> bool: ...

    @property
    def is_endless(self) -> bool: ...

    def ask(
        self, deadline: float, timeout_seconds: float, patience_seconds: float
    ) -> Failure | None:
        """Ask; return why it failed, or `None`."""
        ...

    def ran_out_of_time(self, failure: Failure) -> bool:
        """Whether this failure says no more than that there was no answer in time."""
        ...

    def interrupt(self) -> None:
        """Make the question under way end. Called by other threads."""
        ...

    def rearm(self) -> None:
        """Forget the interruption of the question before."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...

    def abandon(self) -> None:
        """Let go of a connection that belongs to the process before a fork."""
        ...


_SessionT = TypeVar("_SessionT", bound=Session)


class Question:
    """One attempt on its way through the worker. Made and awaited on the event loop.

    Args:
        timeout_seconds: How long the attempt may take.
        patience_seconds: How long a new connection that is accepted may take, be it longer.

    Attributes:
        answered: Set on the event loop once the rest is filled in.
        failure: Why the attempt failed; `None` for a success.
        latency_seconds: How long the work took, measured in the worker.
        finished_at: When it ended, by `time.perf_counter`; 0 until then.
        joined_at: When it began to wait for one before it; 0 for one that did not.
        given_up: Whether nobody waits for it any more.
        void: Whether it failed for want of time in which this process did not run.
    """

    def __init__(self, timeout_seconds: float, patience_seconds: float = 0.0) -> None:
        self.timeout_seconds = timeout_seconds
        self.patience_seconds = patience_seconds
        self.deadline = time.monotonic() + timeout_seconds
        self.void = False
        self.answered = anyio.Event()
        self.failure: Failure | None = None
        self.latency_seconds = 0.0
        self.finished_at = 0.0
        self.joined_at = 0.0
        self.given_up = False
        self._call_on_loop = _loop_caller()

    def finish(self, failure: Failure | None, started_at: float, *, void: bool) -> None:
        """Fill in the result and wake the event loop. Called in the worker."""
        ended_at = time.perf_counter()
        self.failure, self.void = failure, void
        self.latency_seconds = ended_at - started_at
        self.finished_at = ended_at  # Last: it says that the others are there.
        # The loop may have ended in the meantime; then nobody waits. Trio's error is one too.
        with contextlib.suppress(RuntimeError):
            self._call_on_loop(self.answered.set)


class Worker(Generic[_SessionT]):
    """Runs questions one after the other in one thread, which is started by the first of them.

    While a question cannot be interrupted (a hung resolver), those after it wait for it; so there
    is never more than one thread.

    After a fork neither the thread nor the connection is ours: the child begins anew, and leaves
    the parent's connection as it is.

    Args:
        make_session: Makes what the questions are asked with.
        name: Of the thread.

    Attributes:
        session: The connection.
    """

    def __init__(self, make_session: Callable[[], _SessionT], name: str) -> None:
        self._make_session = make_session
        self._name = name
        self._begin()

    def _begin(self) -> None:
        self.session = self._make_session()
        self._process = os.getpid()
        self._lock = threading.RLock()  # a finalizer may come in between, and stop us
        # One for each thing that the thread should look at. A condition variable would wake it
        # while the lock is still held, and so twice.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._next: Question | None = None
        self._running: Question | None = None
        self._found: Failure | None = None
        self._answered_late = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a question is under way or waiting, possibly given up or of another process."""
        return self._running is not None or self._next is not None or self._process != os.getpid()

    @property
    def is_held_up(self) -> bool:
        """With the time of a question up: whether the thread would have said so, had it run.

        Otherwise it is in something that no deadline can end, or that outlasts the attempt.
        """
        if self._running is None:
            return True
        return not self.session.outlasts and not self.session.is_endless

    @property
    def outlasting(self) -> Question | None:
        """The question under way whose attempt is over, if there is one."""
        running = self._running
        return running if running is not None and running.given_up else None

    @property
    def has_news(self) -> bool:
        """Whether a question has ended after its attempt, so that another attempt ends otherwise.

        Not where it has ended for want of time.
        """
        return self._answered_late or self._found is not None

    def submit(self, question: Question) -> None:
        """Have the question asked.

        Raises:
            anyio.ClosedResourceError: After `stop`.
            anyio.BusyResourceError: When somebody still waits for another question.
        """
        if self._process != os.getpid() and not self._stopped:
            self._leave_parent()
        with self._lock:
            if self._stopped:
                raise anyio.ClosedResourceError
            running = self._running
            if self._next is not None or (running is not None and not running.given_up):
                raise anyio.BusyResourceError("asking another question")
            if running is not None:
                question.joined_at = time.perf_counter()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._next = question
        self._wake.put(None)

    def give_up(self, question: Question) -> None:
        """Stop caring about the question, and free the thread from it if that can be done.

        A new connection that Redis has accepted is not given up: the thread goes on with it.
        """
        with self._lock:
            question.given_up = True
            if self._next is question:
                self._next = None
            elif self._running is question and not self.session.outlasts:
                self.session.interrupt()

    def stop(self) -> None:
        """Close the connection and end the thread, without waiting for it."""
        if self._process != os.getpid():
            self._leave_parent()
        with self._lock:
            self._stopped = True
            self._next = None
            if self._running is not None:
                self.session.interrupt()
            else:
                # The thread is parked, and finds the session closed when it wakes up.
                self.session.close()
        self._wake.put(None)

    def _leave_parent(self) -> None:
        # No lock is taken: a thread that held one does not exist in this process.
        self.session.abandon()
        self._begin()

    def _run(self) -> None:
        while (question := self._take()) is not None:
            started_at = question.joined_at or time.perf_counter()
            if not question.joined_at:
                # It counts from here. A thread that was kept waiting for the interpreter has not
                # asked anybody yet.
                question.deadline = time.monotonic() + question.timeout_seconds
            void = False
            failure, self._found = self._found, None
            self._answered_late = False
            if failure is None:
                failure = self.session.ask(
                    question.deadline, question.timeout_seconds, question.patience_seconds
                )
                void = self.session.held_up
            with self._lock:
                self._running = None
                if question.given_up and not self.session.interrupted:
                    self._answered_late = failure is None
                    if failure is not None and not self.session.ran_out_of_time(failure):
                        self._found = failure
                if self._stopped:
                    self.session.close()
            question.finish(failure, started_at, void=void)
            del question  # A parked thread must not keep the event loop's objects alive.

    def _take(self) -> Question | None:
        while True:
            self._wake.get()
            with self._lock:
                # What woke us may have been given up by now.
                if self._next is not None or self._stopped:
                    self._running, self._next = self._next, None
                    self.session.rearm()
                    return self._running


def _loop_caller() -> Callable[[Callable[[], None]], object]:
    """How another thread gets a function called on the event loop that runs here."""
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        return asyncio.get_running_loop().call_soon_threadsafe
    import trio  # needed on its own event loop only

    return trio.lowlevel.current_trio_token().run_sync_soon
