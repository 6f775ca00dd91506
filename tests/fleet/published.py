"""A publisher without an orchestrator around it, and what Redis then has."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

from orchestrator._ports import StartupContext, Target
from orchestrator._probing.fleet_step import ALONE
from orchestrator._runtime.platform_identity import ServiceIdentity
from orchestrator.fleet._decode import decode_state
from orchestrator.fleet._knock_pace import KnockPace
from orchestrator.fleet._link import FleetLink
from orchestrator.fleet._loop_watch import LoopWatch
from orchestrator.fleet._own_state import OwnState
from orchestrator.fleet._publisher import Publisher
from orchestrator.fleet._wire import FleetState, fleet_keys, new_incarnation
from orchestrator.redis._settings import RedisSettings
from orchestrator.redis._url import settings_of_url
from states import (
    BootFinished,
    Policy,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
)
from tests.faults.scenes import wait_until
from tests.redis_server import RedisServer

KEYS = fleet_keys("chat")
_STAGES = (Stage.READY, Stage.DEGRADED, Stage.GRACE)
_MOST_SECONDS = 20.0


def context(
    conditions: dict[str, bool] | None = None, *, policy: Policy | None = None
) -> StartupContext:
    """What an observer is told of a start-up that begins at 0."""
    target = Target("redis", "redis.test", 6379)
    return StartupContext(policy or Policy(), target, conditions or {}, 0.0, 0.0, time.time_ns())


class Published:
    """One instance that changes its stage when it is told to.

    Args:
        settings: Where it publishes.
        follows_probe: Whether it waits for the probe.
        call: Calls a function on the event loop.
    """

    def __init__(
        self,
        settings: RedisSettings,
        *,
        follows_probe: bool = False,
        call: Callable[[Callable[[], object]], object] = lambda function: function(),
    ) -> None:
        self.sequence = 0
        self.incarnation = new_incarnation("one")
        told = context()
        identity = ServiceIdentity("chat", "one", "1.0")
        self.publisher = Publisher(
            FleetLink(settings),
            OwnState(told, identity, self.incarnation),
            KEYS,
            "chat",
            self.incarnation,
            KnockPace(told.policy, ALONE, follows_probe=follows_probe),
            LoopWatch(call),
        )

    def change(self, times: int = 1) -> None:
        """Change the stage."""
        for _ in range(times):
            number = self.sequence = self.sequence + 1
            cause = BootFinished(float(number))
            previous, current = _STAGES[(number - 1) % 3], _STAGES[number % 3]
            changed = StageChanged(number, previous, current, cause, float(number), 1.0)
            self.publisher.note(cause, changed)

    def probe(self, fact: ProbeSucceeded | ProbeFailed) -> None:
        """The probe has made an attempt."""
        self.publisher.note(fact, None)

    def until_told(self) -> None:
        """Wait until Redis has every change."""
        backlog = self.publisher.backlog
        wait_until(lambda: backlog.mark == self.sequence, _MOST_SECONDS)

    def state_in(self, client: "redis.Redis") -> FleetState:
        """Its state, as Redis has it."""
        value = client.hget(KEYS.instances, self.incarnation)
        assert isinstance(value, str)
        state = decode_state(self.incarnation.encode(), value.encode())
        assert isinstance(state, FleetState), state
        return state


@contextmanager
def publishing(
    where: str | RedisSettings,
    *,
    follows_probe: bool = False,
    call: Callable[[Callable[[], object]], object] = lambda function: function(),
) -> Iterator[Published]:
    """An instance that publishes there, and leaves at the end."""
    settings = settings_of_url(where) if isinstance(where, str) else where
    one = Published(settings, follows_probe=follows_probe, call=call)
    one.publisher.start()
    try:
        yield one
    finally:
        one.publisher.leave()
        one.publisher.give_up()
        wait_until(lambda: one.publisher.is_over, _MOST_SECONDS)


def admin(server: RedisServer) -> "redis.Redis":
    """A client that looks at what was published."""
    return redis.Redis(port=server.port, decode_responses=True, protocol=2)


def told(client: "redis.Redis") -> list[int]:
    """The sequences in the stream, in its order."""
    entries: list[Any] = client.xrange(KEYS.events) or []
    return [int(fields["sequence"]) for _, fields in entries]
