"""Ends what the worker's thread does from outside, as soon as the operating system allows."""

import contextlib
import socket
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import TypeVar

_T = TypeVar("_T")


class InterruptedByUs(Exception):  # no error: no one waits for the result any more
    """The attempt was given up from outside."""


class Interruption:
    """Knows the socket that the thread may be blocked on, and shuts it down on request."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finalizer may come in between, and stop us
        self._interrupted = False
        self._handle: socket.socket | None = None
        self._set_aside: socket.socket | None = None
        self._kept: dict[Hashable, object] = {}

    # -- from other threads -----------------------------------------------------------------------

    def interrupt(self) -> None:
        """End the question under way."""
        with self._lock:
            self._interrupted = True
            if self._handle is not None:
                with contextlib.suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    @property
    def has_socket(self) -> bool:
        """Whether there is a current socket."""
        return self._handle is not None

    def watch(self) -> socket.socket | None:
        """A handle on the current socket that the caller owns; `None` without a socket."""
        with self._lock:
            return None if self._handle is None else self._handle.dup()

    def abandon(self) -> None:
        """Close our handle and nothing else: the connection belongs to the process before a fork.

        Takes no lock, since the thread that held it may not exist in this process.
        """
        for handle in (self._handle, self._set_aside):
            if handle is not None:
                handle.close()

    # -- in the worker's thread -------------------------------------------------------------------

    @property
    def interrupted(self) -> bool:
        """Whether the question under way was given up."""
        return self._interrupted

    def rearm(self) -> None:
        """Forget the interruption of the question before."""
        self._interrupted = False

    def adopt(self, sock: socket.socket) -> None:
        """Take note of a socket before it may block.

        Raises:
            InterruptedByUs: When the question was given up already.
        """
        handle = sock.dup()
        if (before := self._exchanged(handle)) is not None:
            before.close()
        self._raise_if_interrupted()

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Adopt other sockets for a while, and afterwards the previous one again."""
        self._set_aside = self._exchanged(None)
        try:
            yield
        finally:
            other = self._exchanged(self._set_aside)
            self._set_aside = None
            if other is not None:
                other.close()

    def forget(self) -> None:
        """The socket is about to be closed."""
        if (handle := self._exchanged(None)) is not None:
            handle.close()

    def _exchanged(self, handle: socket.socket | None) -> socket.socket | None:
        with self._lock:
            before, self._handle = self._handle, handle
        return before

    def uninterruptible(self, key: Hashable, step: Callable[[], _T]) -> _T:
        """Do what no deadline can end; if it ends too late, keep its result for the next attempt.

        So an attempt after one that hung joins what is under way, and nothing is started twice.

        Raises:
            InterruptedByUs: When the question was given up meanwhile.
        """
        self._raise_if_interrupted()
        value: _T = self._kept.pop(key) if key in self._kept else step()  # type: ignore[assignment]  # a key has one step, and its result one type
        with self._lock:
            if self._interrupted:
                self._kept[key] = value
                raise InterruptedByUs
        return value

    def _raise_if_interrupted(self) -> None:
        if self._interrupted:
            raise InterruptedByUs
