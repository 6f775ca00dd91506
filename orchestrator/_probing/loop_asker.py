"""Asking on asyncio's event loop, for as long as the answer is quick.

To wake a thread, and to be woken by it, costs several times what else there is to do in an attempt:
a connection that is open, or a server whose address is known, takes a handful of system calls,
none of which waits. So the event loop makes them itself. Whatever is not there within
`HERE_SECONDS` is left to the thread, which goes on where this has ended: it keeps the deadline, and
tells failures for want of time apart.

Each step is taken where the event loop says that a socket is ready, and not in a task that it wakes
then: a socket that is still unread in the loop's next round would be reported again.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Generator
from typing import NamedTuple

import anyio

from orchestrator._probing.deadline_socket import seconds_since_data
from orchestrator._probing.in_steps import InSteps, Steps, Wait
from orchestrator._probing.question import Answer

HERE_SECONDS = 0.05
"""How long an attempt may take on the event loop; most take less than a thousandth of a second."""

_SURELY_QUICK_SECONDS = 0.002
"""An answer that was taken so soon need not be asked when it came."""


class LoopAnswer(NamedTuple):
    """How far an attempt has come.

    Attributes:
        answer: How it has ended; `None` where the thread has to go on with it, or to ask again.
        latency_seconds: How long it took.
        lag_seconds: How long what had come then waited for the event loop.
    """

    answer: Answer | None
    latency_seconds: float
    lag_seconds: float


class LoopAsker:
    """Asks for one probe, one attempt at a time.

    The connection that a session keeps open is made known to the event loop once, and not for each
    attempt; between attempts it is watched.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._handle: socket.socket | None = None  # registered with the loop while it is there
        self._changed: Callable[[], object] | None = None
        self._attempt: _LoopAttempt | None = None

    async def ask(self, session: InSteps, steps: Steps, timeout_seconds: float) -> LoopAnswer:
        """Ask in these steps.

        Args:
            session: What is asked with.
            steps: How.
            timeout_seconds: How long the whole attempt may take.
        """
        loop = asyncio.get_running_loop()
        attempt = _LoopAttempt(loop, session.ask_in_steps(steps, timeout_seconds))
        self._attempt = attempt if self._handle is not None else None
        try:
            return await attempt.ended(is_watched=self._handle is not None)
        except BaseException:  # mostly for being cancelled, and half a question is none
            session.close()
            raise
        finally:
            self._attempt = None

    @property
    def holds(self) -> bool:
        """Whether the event loop that runs knows the connection."""
        return self._handle is not None and self._loop is asyncio.get_running_loop()

    def watch(self, changed: Callable[[], object]) -> bool:
        """Have a function called once, when the connection that is held is closed.

        Returns:
            Whether there is one, and nobody else watches it.
        """
        if self._handle is None or self._changed is not None:
            return False
        self._changed = changed
        return True

    def unwatch(self) -> None:
        """Call it no more."""
        self._changed = None

    def let_go(self) -> None:
        """Have the event loop forget the connection. From any thread, and after a fork."""
        handle, self._handle = self._handle, None
        loop, self._loop = self._loop, None
        if handle is None or loop is None:
            return
        # After a fork the loop's list is still shared with the parent, which goes on.
        if self._process != os.getpid() or loop.is_closed():
            handle.close()
        elif _is_running(loop):
            _forget(loop, handle)
        else:
            try:
                loop.call_soon_threadsafe(_forget, loop, handle)
            except RuntimeError:  # closed meanwhile
                handle.close()

    def hold(self, handle: socket.socket | None) -> None:
        """Make a connection known that stays open, by a handle of its own; `None` for none."""
        self.let_go()
        if handle is not None:
            self._process = os.getpid()
            self._loop, self._handle = asyncio.get_running_loop(), handle
            self._loop.add_reader(handle.fileno(), self._readable)

    def _readable(self) -> None:
        if self._attempt is not None:
            self._attempt.go_on()
            return
        # It was closed, most likely; and would be said to be readable for ever.
        changed, self._changed = self._changed, None
        self.let_go()
        if changed is not None:
            changed()


class _LoopAttempt:
    """One attempt."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, asking: Generator[Wait, None, Answer | None]
    ) -> None:
        self._loop = loop
        self._asking = asking
        self._began_at = self._waits_since = self._ended_at = time.perf_counter()
        self._lag_seconds = 0.0
        self._wait: Wait | None = None
        self._is_last = False
        self._outcome: asyncio.Future[Answer | None] = loop.create_future()
        self._is_watched = False

    async def ended(self, *, is_watched: bool) -> LoopAnswer:
        """Make it, on a socket that is watched already, or on others."""
        self._is_watched = is_watched
        self._step()
        timer = None
        try:
            if self._outcome.done():
                await asyncio.sleep(0)  # others get a turn in any case
            else:
                timer = self._loop.call_later(HERE_SECONDS, self._give_up)
            answer = await self._outcome
        finally:
            if timer is not None:
                timer.cancel()
            self._forget()
            self._asking.close()
        lag_seconds = self._lag_seconds + time.perf_counter() - self._ended_at
        latency_seconds = max(0.0, self._ended_at - self._began_at - self._lag_seconds)
        return LoopAnswer(answer, latency_seconds, lag_seconds)

    def go_on(self) -> None:
        """What it waited for is there."""
        wait = self._wait
        if wait is None:
            return
        self._forget()
        now = time.perf_counter()
        if now - self._waits_since > _SURELY_QUICK_SECONDS:
            self._lag_seconds += min(now - self._waits_since, seconds_since_data(wait.sock))
        self._step()

    def _give_up(self) -> None:
        # Some event loops look at timers first, and after a stall both are due.
        self._is_last = True
        self.go_on()

    def _step(self) -> None:
        try:
            wait = next(self._asking)
        except StopIteration as end:
            self._end(end.value)
            return
        except BaseException as error:
            if not self._outcome.done():
                self._outcome.set_exception(error)
            return
        if self._is_last:
            self._end(None)
            return
        self._wait = wait
        self._waits_since = time.perf_counter()
        if not self._is_watched:
            add = self._loop.add_writer if wait.writes else self._loop.add_reader
            add(wait.sock.fileno(), self.go_on)

    def _end(self, answer: Answer | None) -> None:
        self._ended_at = time.perf_counter()
        if not self._outcome.done():
            self._outcome.set_result(answer)

    def _forget(self) -> None:
        """Before the socket may be closed: another one may get its number."""
        wait, self._wait = self._wait, None
        if wait is not None and not self._is_watched:
            remove = self._loop.remove_writer if wait.writes else self._loop.remove_reader
            remove(wait.sock.fileno())


def can_ask_here() -> bool:
    """Whether this is asyncio's event loop, and one that can say when a socket is ready."""
    if anyio.get_cancelled_exc_class() is not asyncio.CancelledError:
        return False
    loop = type(asyncio.get_running_loop())
    return loop.add_reader is not asyncio.AbstractEventLoop.add_reader  # as on Windows


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _forget(loop: asyncio.AbstractEventLoop, handle: socket.socket) -> None:
    if not loop.is_closed():
        loop.remove_reader(handle.fileno())
    handle.close()
