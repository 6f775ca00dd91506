"""What is under way behind a gate, and how it ends in a drain."""

import anyio

from orchestrator._gate.admission import Admission
from orchestrator._gate.open_sockets import OpenSockets


class InFlight:
    """The requests and WebSockets that were let in: each is inside of this context manager.

    It takes part in the drains of the start-up. Those that are still held are refused when one
    begins, and what bypasses the gate is not waited for.

    Args:
        admission: Refuses what is new.
        open_sockets: The WebSockets to close.

    Attributes:
        inside: How many there are. The ASGI gate counts here itself, for every request.
        awaited: Whether a drain waits for their end: whoever counts down tells `look` then.
    """

    def __init__(self, admission: Admission, open_sockets: OpenSockets) -> None:
        self.inside = 0
        self._admission = admission
        self._open_sockets = open_sockets
        self.awaited = False
        self._none_left = anyio.Event()
        admission.startup.drain_with(self)

    def __enter__(self) -> None:
        self.inside += 1

    def __exit__(self, *_error: object) -> None:
        self.inside -= 1
        if self.awaited:
            self.look()

    def look(self) -> None:
        """One has left: go on with the drain if it was the last."""
        if not self.inside:
            self._none_left.set()

    @property
    def awaits(self) -> bool:
        """Whether a drain has to wait for anything but `inside`: no."""
        return False

    async def announce_drain(self) -> None:
        """Refuse those who are held, unless the gate is open and they only wait for their turn."""
        if not self._admission.is_open():
            await self._admission.stop_bit_by_bit()

    async def drain(self, close_seconds: float) -> None:
        """Take nothing new, close the WebSockets, and wait for all that was let in."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._admission.stop_bit_by_bit)
            tasks.start_soon(self._open_sockets.drain, self._admission.clock, close_seconds)
            self.awaited = True
            try:
                while self.inside:
                    self._none_left = anyio.Event()
                    await self._none_left.wait()
            finally:
                self.awaited = False
            tasks.cancel_scope.cancel()
