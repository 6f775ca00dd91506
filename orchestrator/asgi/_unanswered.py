"""The requests that have no answer yet, for which a shutdown waits a moment."""

from types import TracebackType

import anyio
import anyio.lowlevel

_TURNS = 10
"""Some servers and middlewares hand a message over to a task of their own, which writes it. Each of
them takes one turn of the event loop, or two."""


class Unanswered:
    """Counts them: each is inside of this context manager.

    Attributes:
        count: How many there are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._none = anyio.Event()

    def __enter__(self) -> None:
        """One more."""
        self.count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """It is answered or admitted."""
        self.count -= 1
        if not self.count:
            self._none.set()

    async def written(self) -> None:
        """Wait until all of them are answered, and the answers are with the transports."""
        while self.count:
            self._none = anyio.Event()
            await self._none.wait()
        for _ in range(_TURNS):
            await anyio.lowlevel.checkpoint()
