"""A session that can be asked without waiting, so that an event loop can do it.

The session does what it can, says what it waits for, and goes on once that is there. Whatever takes
its time is left to the thread, which finds the question sent, and what has come of the answer.
"""

import socket
from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import NamedTuple

from orchestrator._probing.question import Answer


class Wait(NamedTuple):
    """What an attempt waits for.

    Attributes:
        sock: A socket that does not block.
        writes: Whether it has to be writable, and not readable.
    """

    sock: socket.socket
    writes: bool = False


Steps = Generator[Wait, None, None]
"""One exchange: it yields whenever it has to wait, and raises what is wrong. Closed while it waits,
it leaves all as it is, for the thread to go on with."""


class InSteps(ABC):
    """A session that may be asked in steps."""

    @abstractmethod
    def steps(self) -> Steps | None:
        """How to ask now; `None` where only the thread can."""

    @abstractmethod
    def ask_in_steps(
        self, steps: Steps, timeout_seconds: float
    ) -> Generator[Wait, None, Answer | None]:
        """Ask in these steps.

        Returns:
            How the attempt has ended; `None` where the thread has to ask again.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection."""
