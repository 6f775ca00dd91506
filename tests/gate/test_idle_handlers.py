"""What a handler that says nothing, or ends, means for those that come after it."""

import anyio
import pytest

from orchestrator._gate.hold_queue import HoldQueue, Ticket
from orchestrator._gate.patience import LEAST_TICKS
from orchestrator._gate.turnstile import Turnstile
from orchestrator.testing import ManualClock
from tests.asgi.gate_support import settled

pytestmark = pytest.mark.anyio


class OneSlot:
    """A turnstile with one slot, early on in a service that has just become ready."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.is_open = False
        queue = HoldQueue(16, {})
        self.turnstile = Turnstile(1, queue, lambda: self.is_open, self.clock, 3.0)
        self.turnstile.refused(50.0)  # whoever comes in the next 50 s may be that client
        self.is_open = True

    async def waits_after(self, idle_seconds: float) -> Ticket:
        """One that was let in, was idle for so long, and now waits for a slot to work in."""
        ticket, other = Ticket(), Ticket()
        assert self.turnstile.enter(ticket)
        self.turnstile.rest(ticket)
        await self.clock.advance(idle_seconds)
        assert self.turnstile.enter(other)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.turnstile.turn, ticket)
            await settled()
            tasks.cancel_scope.cancel()
        self.turnstile.leave(other)
        return ticket


@pytest.mark.parametrize(("idle_seconds", "early"), [(0.2, True), (9.0, True), (11.0, False)])
@pytest.mark.parametrize("ready_seconds", [0.0, 15.0])
async def test_a_client_that_says_nothing_for_ten_seconds_is_not_early_any_more(
    idle_seconds: float, early: bool, ready_seconds: float
) -> None:
    service = OneSlot()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.turnstile.run)
        await settled()
        await service.clock.advance(ready_seconds)
        ticket = await service.waits_after(idle_seconds)
        assert ticket.early is early
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("works_seconds", "client_left", "learned"),
    [(0.15, False, True), (2.0, False, False), (0.15, True, False)],
    ids=["ends in time", "ends late, as when it is cancelled", "ends since its client left"],
)
async def test_only_a_handler_that_ends_its_work_teaches_how_long_that_takes(
    works_seconds: float, client_left: bool, learned: bool
) -> None:
    """One that only pushes says nothing by its end."""
    service = OneSlot()
    turnstile = service.turnstile
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turnstile.run)
        await settled()
        ticket = Ticket()
        assert turnstile.enter(ticket)
        assert ticket.patience is not None
        limit = ticket.patience.answering
        while limit.ticks > LEAST_TICKS:
            limit.outlived(1)
        turnstile.answering(ticket)
        await service.clock.advance(works_seconds)
        turnstile.leave(ticket, client_left=client_left)
        assert (limit.ticks > LEAST_TICKS) is learned
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("ready_seconds", [0.0, 1.0])
async def test_a_handler_that_receives_again_teaches_how_long_its_work_took(
    ready_seconds: float,
) -> None:
    service = OneSlot()
    turnstile = service.turnstile
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turnstile.run)
        await settled()
        await service.clock.advance(ready_seconds)
        ticket = Ticket()
        assert turnstile.enter(ticket)
        assert ticket.patience is not None
        limit = ticket.patience.silent
        while limit.ticks > LEAST_TICKS:
            limit.outlived(1)
        began_tick = turnstile._tick
        await service.clock.advance(0.15)  # three ticks, or two and a part of one
        ticks = turnstile._tick - began_tick
        turnstile.rest(ticket)
        assert ticks in (2, 3)
        assert limit.ticks == 2 * ticks  # the next ones get twice as long
        tasks.cancel_scope.cancel()
