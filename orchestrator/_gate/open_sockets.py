"""Open WebSockets that the gate closes: when the service becomes degraded, and when it ends."""

from collections.abc import Callable, Iterable
from random import Random
from typing import NamedTuple, Protocol, Self

import anyio

from orchestrator._gate.holding import check_number
from orchestrator._gate.refusals import (
    PRIVATE_RESTART,
    PRIVATE_TRY_AGAIN_LATER,
    RESTART,
    TRY_AGAIN_LATER,
)
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock

_CLOSE_SECONDS = 5.0
"""How long one close may take: a client that reads nothing must not keep the others open."""


class Closing(NamedTuple):
    """How a WebSocket is closed.

    Attributes:
        code: The close code.
        private_code: The same from the range for private use: some servers don't let applications
            send the other.
        reason: One line for the client.
    """

    code: int
    private_code: int
    reason: str


DEGRADED = Closing(TRY_AGAIN_LATER, PRIVATE_TRY_AGAIN_LATER, "The service is degraded.")
DRAINED = Closing(RESTART, PRIVATE_RESTART, "The service is restarting.")


class OpenSocket(Protocol):
    """One open WebSocket, as its adapter knows it. It costs memory for as long as it is open."""

    async def close_by_gate(self, closing: Closing) -> None:
        """Close it; its handler learns that it has ended."""
        ...


class OpenSockets:
    """The open WebSockets of one gate.

    Closing them all at once would bring all their clients back at once. When the service becomes
    degraded each is closed at a random moment within a time that the application chooses; in a
    drain one after the other, evenly.

    Args:
        degrade_seconds: That time; 0 closes all at once, `None` leaves them open.
        random: The source of the moments; seeded by the system if not given.
    """

    def __init__(self, degrade_seconds: float | None, random: Random | None = None) -> None:
        self._degrade_seconds = degrade_seconds
        # Jitter needs no secrecy.
        self._random = random or Random()
        self._open: dict[OpenSocket, None] = {}
        self._added = anyio.Event()
        self._closing = False

    @classmethod
    def from_option(cls, close_on_degrade_seconds: float | None, random: Random | None) -> Self:
        """Those of a gate with this option."""
        if close_on_degrade_seconds is not None:
            check_number("close_on_degrade_seconds", close_on_degrade_seconds, 0)
        return cls(close_on_degrade_seconds, random)

    @property
    def close_on_degrade(self) -> bool:
        """Whether they are closed when the service becomes degraded."""
        return self._degrade_seconds is not None

    def begin_anew(self) -> None:
        """Forget those of an event loop that is gone."""
        self._open.clear()
        self._added, self._closing = anyio.Event(), False

    def add(self, socket: OpenSocket) -> None:
        """A WebSocket has opened."""
        self._open[socket] = None
        self._added.set()

    def discard(self, socket: OpenSocket) -> None:
        """It is closed, or about to be."""
        self._open.pop(socket, None)

    async def close(self, clock: Clock, still_wanted: Callable[[], bool]) -> None:
        """Close those that are open, for as long as it is still wanted.

        Those that open meanwhile are closed too: they were let in just before.
        """
        if self._closing:
            self._added.set()  # it waits for the next one to open: have it look again
            return
        self._closing = True
        spread = self._degrade_seconds or 0.0
        try:
            while still_wanted():
                self._added = anyio.Event()
                moments = sorted(self._random.uniform(0, spread) for _ in self._open)
                await self._close_at(moments, clock, DEGRADED, still_wanted)
                await self._added.wait()
        finally:
            self._closing = False

    async def close_one_by_one(self, clock: Clock, spread_seconds: float) -> None:
        """Close those that are open, evenly in that time, and then each that opens; never ends."""
        while True:
            self._added = anyio.Event()
            number = len(self._open)
            moments = [spread_seconds * index / number for index in range(number)]
            await self._close_at(moments, clock, DRAINED, lambda: True)
            spread_seconds = 0.0
            await self._added.wait()

    async def _close_at(
        self,
        moments: Iterable[float],
        clock: Clock,
        closing: Closing,
        still_wanted: Callable[[], bool],
    ) -> None:
        began_at = clock.now()
        async with anyio.create_task_group() as tasks:
            for moment, socket in zip(moments, tuple(self._open), strict=False):
                with clock.cancel_at(began_at + moment):
                    await anyio.sleep_forever()
                if not still_wanted():
                    return
                if socket in self._open:
                    self.discard(socket)
                    tasks.start_soon(_close_one, socket, closing)


async def _close_one(socket: OpenSocket, closing: Closing) -> None:
    try:
        with anyio.move_on_after(_CLOSE_SECONDS):
            await socket.close_by_gate(closing)
    except Exception as error:  # it is logged
        # The client may have just left, and servers differ in what they raise then.
        logger.debug("a WebSocket could not be closed with %d", closing.code, error=error)
