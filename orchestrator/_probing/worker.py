"""A daemon thread of our own for the blocking side of a probe.

The event loop's worker threads won't do: they delay cancellation, and the exit of the process,
until the blocking call returns by itself. Nothing ever waits for this thread.

An attempt is a `Question`: the event loop submits it, waits for the answer, and gives it up when
its time is over. The thread asks one question after the other with a `Session`, which is one
connection. What happens to a question that is given up depends on what the thread is in:

- It can be interrupted: the socket is shut down, and the thread is free at once.
- The server has accepted a new connection (`Session.accepted_at`): the thread goes on with it, for
  as long as its patience lasts. How that ends is kept as `_late`, and `IfLate` says what it means
  to the next question.
- No deadline can end it, such as a hung resolver: the next question waits for it, and uses what it
  gave. So there is never more than one thread, and nothing is started twice.

If several checks share one probe, their questions are asked in turn.

After a fork neither the thread nor the connection is ours: the child starts afresh, and leaves the
parent's connection alone.
"""

import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import anyio

from orchestrator._probing.interruption import Interruption
from orchestrator._probing.question import Answer, IfLate, Question
from states import Failure, FailureKind


class Session(Protocol):
    """What the thread asks with: one connection, kept from question to question.

    Attributes:
        interruption: Knows the socket that the thread may be blocked on.
    """

    interruption: Interruption

    @property
    def accepted_at(self) -> float:
        """When a new connection was accepted that has not answered yet; 0 for none."""
        ...

    @property
    def is_endless(self) -> bool:
        """Whether no deadline can end what is under way."""
        ...

    @property
    def waits_since(self) -> float:
        """Since when the thread has waited for the server, in monotonic seconds.

        0 while this process is busy for itself, possibly with what the server has answered; and
        infinite where it cannot be known which of the two it is.
        """
        ...

    @property
    def held_seconds(self) -> float:
        """How much of the attempt has passed on its connection without the server's turn."""
        ...

    def ask(self, deadline: float, timeout_seconds: float, patience_seconds: float) -> Answer:
        """Ask once. An exception is a transient failure, of which only the type is shown.

        Args:
            deadline: When the attempt ends, in monotonic seconds.
            timeout_seconds: How long it may take.
            patience_seconds: How long a new connection that was accepted may take, if longer.
        """
        ...

    def timed_out(self, timeout_seconds: float) -> Failure:
        """What is missing of an attempt whose time is up. Called on the event loop."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...

    def abandon(self) -> None:
        """Let go of a connection that belongs to the process before a fork.

        Close its descriptors only: send nothing, and take no lock.
        """
        ...


_SessionT = TypeVar("_SessionT", bound=Session)


class Worker(Generic[_SessionT]):
    """The thread, the connection that it uses, and the question under way.

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
        # One item for each thing that the thread should look at. A condition variable would wake it
        # while the lock is still held, and so twice.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._waiting: deque[Question] = deque()
        self._is_lent = False
        self._running: Question | None = None
        self._late: Answer | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a question is under way or waiting, possibly given up or of another process."""
        has_some = self._running is not None or bool(self._waiting)
        return has_some or self._is_lent or self._process != os.getpid()

    @property
    def is_held_up(self) -> bool:
        """Whether the thread, had it run, would have said that a question's time is up.

        Otherwise it is in something that no deadline can end, or that outlasts the attempt.
        """
        return self._running is None or not (self.session.accepted_at or self.session.is_endless)

    @property
    def outlasting(self) -> Question | None:
        """The question under way whose attempt is over, if there is one."""
        running = self._running
        return running if running is not None and running.given_up else None

    @property
    def has_news(self) -> bool:
        """Whether a question ended after its attempt, so that another attempt may differ.

        Not if it ended because its time was up.
        """
        return self._late is not None

    def submit(self, question: Question) -> None:
        """Have the question asked, after those that came before.

        Raises:
            anyio.ClosedResourceError: After `stop`.
        """
        if self._process != os.getpid() and not self._stopped:
            self._leave_parent()
        with self._lock:
            if self._stopped:
                raise anyio.ClosedResourceError
            is_first = self._running is None and not self._waiting and not self._is_lent
            if not is_first and not question.started_at:
                question.started_at = time.perf_counter()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._waiting.append(question)
        self._wake.put(None)

    def lend(self) -> _SessionT | None:
        """Give the session away until `take_back`, since the thread has nothing to do with it.

        Returns:
            `None` where the thread is needed.
        """
        if self._process != os.getpid():
            return None
        with self._lock:
            if self._stopped or self._running is not None or self._waiting or self._is_lent:
                return None
            if self._late is not None:
                return None
            self._is_lent = True
            self.session.interruption.rearm()
        return self.session

    def take_back(self) -> None:
        """Have it back. Questions that came meanwhile are asked now."""
        with self._lock:
            self._is_lent = False
            if self._stopped:
                self.session.close()
            is_wanted = bool(self._waiting)
        if is_wanted:
            self._wake.put(None)

    def give_up(self, question: Question) -> None:
        """End the question's attempt, and free the thread unless the question may outlast it."""
        with self._lock:
            question.given_up = True
            if question in self._waiting:
                self._waiting.remove(question)
            elif self._running is question and not self.session.accepted_at:
                self.session.interruption.interrupt()

    def stop(self) -> None:
        """Close the connection and end the thread, without waiting for it."""
        if self._process != os.getpid():
            self._leave_parent()
        with self._lock:
            self._stopped = True
            self._waiting.clear()
            if self._running is not None:
                self.session.interruption.interrupt()
            elif not self._is_lent:
                # The thread is parked, and finds the session closed when it wakes up.
                self.session.close()
        self._wake.put(None)

    def _leave_parent(self) -> None:
        # No lock is taken: a thread that held one does not exist in this process.
        self.session.abandon()
        self._begin()

    # -- in the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while (question := self._take()) is not None:
            waited = question.started_at > 0
            question.start()
            answer, self._late = self._late, None
            if answer is None or not answer.if_late.answers(answer.failure, waited):
                answer = self._ask(question)
            with self._lock:
                self._running = None
                interrupted = self.session.interruption.interrupted
                says_nothing = interrupted or answer.if_late is IfLate.SAYS_NOTHING
                if question.given_up and not says_nothing:
                    self._late = answer
                if self._stopped:
                    self.session.close()
            question.finish(answer)
            del question  # A parked thread must not keep the event loop's objects alive.

    def _ask(self, question: Question) -> Answer:
        try:
            return self.session.ask(
                question.deadline, question.timeout_seconds, question.patience_seconds
            )
        except Exception as error:  # it must not end the thread, or nothing would answer
            self.session.close()
            kind = type(error).__name__
            return Answer(Failure(FailureKind.TRANSIENT, kind, f"the probe itself gave {kind}"))

    def _take(self) -> Question | None:
        while True:
            self._wake.get()
            with self._lock:
                # The question that woke us may have been given up, or wait for the session.
                if (self._waiting and not self._is_lent) or self._stopped:
                    self._running = self._waiting.popleft() if self._waiting else None
                    self.session.interruption.rearm()
                    return self._running
