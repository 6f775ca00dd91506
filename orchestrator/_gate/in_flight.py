"""What is under way behind a gate, and what becomes of it in a drain (`_core/drain.py`).

- When the drain is announced, those who are held are refused, unless the gate is open. That sets
  the outcome of their tickets in the `HoldQueue`; the task of each client, which the adapter has
  kept waiting, then sends the refusal (`asgi/_refusal.py`). What was let in goes on.
- After the announced time, it winds down: new requests are refused, open WebSockets are closed one
  by one, and it waits until all that was let in has ended.
"""

from collections.abc import Mapping

import anyio

from orchestrator._gate.admission import Admission
from orchestrator._gate.open_sockets import OpenSockets


class InFlight:
    """The requests and WebSockets that were let in: each is inside this context manager.

    It takes part in the drains of the start-up. Those that are still held are refused when one
    begins, and what bypasses the gate is not waited for.

    Args:
        admission: Refuses what is new.
        open_sockets: The WebSockets to close.

    Attributes:
        entered: How many have entered and not left. The ASGI gate counts its WebSockets here.
        requests: The HTTP requests of a ready ASGI gate, which are inside without entering: each by
            its `send`, with its scope.
        awaited: Whether a drain waits for their end: whoever counts down calls `one_left` then.
    """

    def __init__(self, admission: Admission, open_sockets: OpenSockets) -> None:
        self.entered: int = 0
        self.requests: dict[object, Mapping[str, object]] = {}
        self._admission = admission
        self._open_sockets = open_sockets
        self.awaited = False
        self._none_left = anyio.Event()
        admission.startup.drain_with(self)

    def __enter__(self) -> None:
        self.entered += 1

    def __exit__(self, *_error: object) -> None:
        self.entered -= 1
        if self.awaited:
            self.one_left()

    @property
    def inside(self) -> int:
        """How many requests and WebSockets there are."""
        return self.entered + len(self.requests)

    def one_left(self) -> None:
        """One has left: go on with the drain if it was the last."""
        if not self.inside:
            self._none_left.set()

    @property
    def awaits(self) -> bool:
        """A drain has nothing else to wait for than those inside."""
        return False

    async def drain_announced(self) -> None:
        """Refuse those who are held, unless the gate is open and they only wait for their turn."""
        if not self._admission.is_open():
            await self._admission.stop_bit_by_bit()

    async def wind_down(self, close_seconds: float) -> None:
        """Take nothing new, close the WebSockets, and wait for all that was let in."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._admission.stop_bit_by_bit)
            tasks.start_soon(
                self._open_sockets.close_one_by_one, self._admission.clock, close_seconds
            )
            self.awaited = True
            try:
                while self.inside:
                    self._none_left = anyio.Event()
                    await self._none_left.wait()
            finally:
                self.awaited = False
            tasks.cancel_scope.cancel()
