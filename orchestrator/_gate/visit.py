"""What a handler does that was let in while `ready` is young, as its adapter sees it."""

import anyio

from orchestrator._gate.hold_queue import Place
from orchestrator._gate.turnstile import Turnstile


class Visit:
    """One admitted request, as its adapter sees what the handler does.

    Args:
        turnstile: Where its slots come from.
        place: What it is known by there.
    """

    __slots__ = ("_handed", "_owner", "_place", "_turnstile", "reads_apart")

    def __init__(self, turnstile: Turnstile, place: Place) -> None:
        self._turnstile = turnstile
        self._place = place
        self._owner = anyio.get_current_task().id
        self._handed = 0  # messages that nothing has been sent for yet
        self.reads_apart: bool = False

    @property
    def over(self) -> bool:
        """Whether slots are needed no longer."""
        return not self._turnstile.young

    def waits(self) -> None:
        """The handler asks for its next message, and may have to wait for it."""
        if anyio.get_current_task().id == self._owner:
            self._turnstile.rest(self._place)
        else:
            self.reads_apart = True
            if not self._handed:
                self._turnstile.settle(self._place)

    async def message(self) -> None:
        """A message is about to be handed over: wait for a slot.

        Cancelling it loses nothing; whoever calls it keeps the message meanwhile.
        """
        await self._turnstile.turn(self._place)
        self._handed += 1

    def sent(self) -> None:
        """The handler has sent something."""
        if self.reads_apart:
            self._handed = max(0, self._handed - 1)
            if self._handed:
                self._turnstile.go_on(self._place)
            else:
                self._turnstile.settle(self._place)
        else:
            self._turnstile.answering(self._place)

    def settle(self) -> None:
        """Nothing will be known of the handler."""
        self._turnstile.settle(self._place)

    def failed(self) -> None:
        """The handler raised, or closed its WebSocket as broken."""
        self._turnstile.failed()

    def leave(self) -> None:
        """The handler has ended."""
        self._turnstile.leave(self._place)
