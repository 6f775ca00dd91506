"""Open WebSockets that are closed when the service becomes degraded."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Self

import anyio

from orchestrator._gate.holding import check
from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Clock

_CLOSE_SECONDS = 5.0
"""How long one close may take: a client that reads nothing must not keep the others open."""

Close = Callable[[], Awaitable[None]]
"""Closes one WebSocket with 1013."""


class OpenSockets:
    """The open WebSockets of one gate.

    Closing them all at once would bring all their clients back at once, so each is closed at a
    random moment within a time that the application chooses.

    Args:
        spread_seconds: That time; 0 closes all at once.
        random: The source of the moments; seeded by the system if not given.
    """

    def __init__(self, spread_seconds: float, random: Random | None = None) -> None:
        self._spread_seconds = spread_seconds
        # Jitter needs no secrecy.
        self._random = random or Random()  # noqa: S311  it is jitter
        self._open: dict[Close, None] = {}
        self._added = anyio.Event()
        self._closing = False

    @classmethod
    def from_option(
        cls, close_on_degrade_seconds: float | None, random: Random | None
    ) -> Self | None:
        """Those to close when the service becomes degraded; `None` where they stay open."""
        if close_on_degrade_seconds is None:
            return None
        check("close_on_degrade_seconds", close_on_degrade_seconds, 0)
        return cls(close_on_degrade_seconds, random)

    def begin_anew(self) -> None:
        """Forget those of an event loop that is gone."""
        self._open.clear()
        self._added, self._closing = anyio.Event(), False

    def add(self, close: Close) -> None:
        """A WebSocket has opened."""
        self._open[close] = None
        self._added.set()

    def discard(self, close: Close) -> None:
        """It is closed, or about to be."""
        self._open.pop(close, None)

    async def close(self, clock: Clock, still_wanted: Callable[[], bool]) -> None:
        """Close those that are open, for as long as it is still wanted.

        Also those that open only now, since they were let in just before.
        """
        if self._closing:
            self._added.set()  # it waits for the next one to open: have it look again
            return
        self._closing = True
        try:
            while still_wanted():
                self._added = anyio.Event()
                await self._close_all(clock, still_wanted)
                await self._added.wait()
        finally:
            self._closing = False

    async def _close_all(self, clock: Clock, still_wanted: Callable[[], bool]) -> None:
        began_at, spread = clock.now(), self._spread_seconds
        due = sorted(
            ((began_at + self._random.uniform(0, spread), close) for close in self._open),
            key=lambda item: item[0],
        )
        async with anyio.create_task_group() as tasks:
            for at, close in due:
                with clock.cancel_at(at):
                    await anyio.sleep_forever()
                if not still_wanted():
                    return
                if close in self._open:
                    self.discard(close)
                    tasks.start_soon(_close_one, close)


async def _close_one(close: Close) -> None:
    try:
        with anyio.move_on_after(_CLOSE_SECONDS):
            await close()
    except Exception as error:  # it is logged
        # The client may be gone in this moment, and servers differ in what they raise.
        logger.debug("a WebSocket could not be closed with 1013", error=error)
