"""What a handler that was let in while `ready` is young is doing, as its adapter sees it.

Only three things can be seen from outside: a message is asked for, a message is handed over, and
something is sent. What each says about the handler's work depends on the task that does it:

- The handler's own task asks for the next message: its unit of work is over. That task is the one
  that accepted the WebSocket; without such a sign, the one in which the handler was called.
- Another task asks, as when one task reads and another writes, or a framework reads ahead: that
  says nothing about the work. Such a unit ends a while after its messages were answered.
- Something is sent for a message that was handed to another task. While that task has not asked
  again, it may be at work on the message itself, and only what it sends is the answer. Once it has,
  the work is done elsewhere, and whatever the handler sends is the answer.
- Something is sent while a message is about to be handed over: that cannot be the answer to it.
- A handler sends to another handler's WebSocket, as in a broadcast: that says nothing about the
  other's work. A context variable tells which handler is sending.
"""

from contextvars import ContextVar
from itertools import count

import anyio

from orchestrator._gate.hold_queue import Ticket
from orchestrator._gate.turnstile import Turnstile

_numbers = count()
# A number and not the visit itself: the context lives for as long as the connection.
_handler: ContextVar[int] = ContextVar("_handler")


class Visit:
    """One admitted request; made in its handler's task, or at least in its context.

    Args:
        turnstile: Where its slots come from.
        ticket: Its ticket there.
    """

    __slots__ = (
        "_client_left",
        "_number",
        "_owner",
        "_reader",
        "_reads_ahead",
        "_reads_apart",
        "_sent_since",
        "_taker",
        "_ticket",
        "_turnstile",
    )

    def __init__(self, turnstile: Turnstile, ticket: Ticket) -> None:
        self._turnstile = turnstile
        self._ticket = ticket
        self._number = next(_numbers)
        _handler.set(self._number)
        self._owner = _task()
        self._reader: object = None  # the task that asked last
        self._taker: object = None  # the task to which the last message was handed
        self._reads_apart = False
        self._reads_ahead = False  # the messages not answered yet are worked on by another task
        self._client_left = False
        self._sent_since = False  # something was sent since, but by another task than the taker

    @property
    def over(self) -> bool:
        """Whether slots are no longer needed."""
        return not self._turnstile.young

    def accepted(self) -> None:
        """The handler has accepted its WebSocket."""
        self._owner = _task()

    def waits(self) -> None:
        """The handler asks for its next message, and may have to wait for it."""
        task, earlier, self._reader = _task(), self._reader, _task()
        if task is self._owner:
            self._turnstile.rest(self._ticket)
            return
        self._reads_apart = True
        if not self._ticket.unanswered:
            return
        if earlier is not task and self._sent_since:
            # A task for each `receive`, as `asyncio.wait_for` has it on Python 3.11: what was sent
            # meanwhile was the answer.
            self._answered()
        else:
            self._reads_ahead = True

    async def turn(self) -> None:
        """A message is about to be handed over: wait for a slot.

        Cancelling it loses nothing; whoever calls it keeps the message meanwhile.
        """
        await self._turnstile.turn(self._ticket)

    def handed(self) -> None:
        """The message was handed over, in the turn of the event loop in which `turn` returned."""
        self._taker = _task()
        self._reads_apart = self._reads_apart or self._taker is not self._owner
        self._reads_ahead = self._sent_since = False
        self._ticket.granted = False
        self._ticket.unanswered += 1
        self._ticket.spoken = True

    def sent(self) -> None:
        """Something was sent."""
        if self._ticket.granted or _handler.get(None) != self._number:
            return
        if not self._reads_apart or not self._ticket.unanswered:
            self._turnstile.answering(self._ticket)
        elif self._reads_ahead or _task() is self._taker:
            self._answered()
        else:
            self._sent_since = True

    def _answered(self) -> None:
        ticket = self._ticket
        ticket.unanswered -= 1
        if ticket.unanswered:
            self._turnstile.go_on(ticket)
        else:
            self._turnstile.answering(ticket)

    def failed(self) -> None:
        """The handler raised, or closed its WebSocket as broken."""
        self._turnstile.failed()

    def client_left(self) -> None:
        """The handler has received the message that its client left."""
        self._client_left = True

    def leave(self) -> None:
        """The handler has ended."""
        self._turnstile.leave(self._ticket, client_left=self._client_left)


def _task() -> object:
    """The coroutine of this task: the next task may have the id of one that has ended."""
    return anyio.get_current_task().coro
