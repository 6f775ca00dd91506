"""Messages on their way to a handler, whatever the server."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from orchestrator._gate.visit import Visit

MessageT = TypeVar("MessageT")


class Messages(Generic[MessageT]):
    """Hands each message over once there is a slot to work on it.

    What has arrived is kept until then. So nothing is lost to a handler that stops waiting, and two
    tasks that wait at once get a message each.

    Args:
        visit: Where slots are asked for.
    """

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._kept: list[MessageT] = []
        self._ended = False

    def end(self) -> None:
        """The handler has ended: a task of its own that still receives needs no slot."""
        self._ended = True

    @property
    def waiting(self) -> bool:
        """Whether a message is here already."""
        return bool(self._kept)

    @property
    def over(self) -> bool:
        """Whether the server's own `receive` will do from now on."""
        return (self._visit.over or self._ended) and not self._kept

    async def next(self, receive: Callable[[], Awaitable[MessageT]]) -> MessageT:
        """The next message; `receive` is the server's."""
        while not self.over:
            self._visit.waits()
            if not self._kept:
                self._kept.append(await receive())
            await self._visit.turn()
            if self._ended:
                self._visit.leave()
            if self._kept:  # else another task that waits got it
                self._visit.handed()
                return self._kept.pop(0)
        return await receive()
