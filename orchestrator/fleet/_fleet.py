"""`Fleet`: the observer that publishes how an instance stands, in the service's own Redis."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel

from orchestrator._hardening.arguments import require
from orchestrator._ports import Observer, StartupContext
from orchestrator._probing.fleet_step import FleetStep
from orchestrator._runtime.event_loop import EventLoop
from orchestrator._runtime.fork import forget_in_child
from orchestrator._runtime.platform_identity import ServiceIdentity, service_identity
from orchestrator.fleet._knock_pace import KnockPace
from orchestrator.fleet._link import FleetLink
from orchestrator.fleet._loop_watch import LoopWatch
from orchestrator.fleet._own_state import OwnState
from orchestrator.fleet._publisher import Publisher
from orchestrator.fleet._wire import (
    MOST_NAME_BYTES,
    fleet_keys,
    is_service_name,
    new_incarnation,
    shorten,
)
from orchestrator.redis._given_client import settings_of_client
from orchestrator.redis._sentinels import settings_of_sentinels
from orchestrator.redis._settings import RedisSettings
from orchestrator.redis._url import settings_of_url
from states import Fact, StageChanged

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_LEAVING_SECONDS = 0.9
"""How long leaving waits for the last messages; closing gets 1 s in all."""

_POLL_SECONDS = 0.005

_NO_SERVICE_CHARACTER = re.compile(r"[^A-Za-z0-9._-]+")
_MOST_SERVICE_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """What a `Fleet` has done since the orchestrator was entered.

    Attributes:
        sent: Changes of stage that were published, repeats included.
        sent_again: How many of these Redis had lost.
        dropped: Changes that were never published: only the last 256 are kept while Redis is away.
        behind: Changes that are still to be published.
        connects: Connections that were tried.
    """

    sent: int = 0
    sent_again: int = 0
    dropped: int = 0
    behind: int = 0
    connects: int = 0


class Fleet(Observer):
    """Publishes every change of stage and how the instance stands, for the whole fleet to be seen.

    Example::

        fleet = Fleet(url, service="chat")
        startup = Orchestrator(RedisProbe(url), observers=[fleet])

    The event loop only notes what happens; a thread of its own sends it to Redis, over one
    connection. It connects once the probe has been answered, and so never before Redis is there.
    While Redis is away the last 256 changes are kept, and are published in order when it is back;
    what Redis has lost is published again. Nothing that fails here is raised, or delays the start.

    An instance is alive while it renews its lease, every 2 s, for 6 s each time. Its reader also
    learns if its event loop is stuck, and if it has said goodbye.

    Args:
        url: Where Redis is, as for `RedisProbe`; usually the Redis that is probed.
        service: What all instances are called together: 1 to 64 of the characters
            `A-Z a-z 0-9 . _ -`. If not given: ORCHESTRATOR_FLEET_SERVICE, OTEL_SERVICE_NAME, or
            what the platform calls it.
        instance: What this one is called. If not given: ORCHESTRATOR_FLEET_INSTANCE,
            `service.instance.id` of OTEL_RESOURCE_ATTRIBUTES, the pod, or the host.
        version: What it runs. If not given: ORCHESTRATOR_FLEET_VERSION, `service.version` of
            OTEL_RESOURCE_ATTRIBUTES, or the platform's revision.

    Raises:
        TypeError: When an argument is of the wrong type.
        ValueError: When the URL or a name cannot be used, or nothing names the service.
    """

    def __init__(
        self,
        url: str,
        *,
        service: str | None = None,
        instance: str | None = None,
        version: str | None = None,
    ) -> None:
        self._use(settings_of_url(url), service, instance, version)

    @classmethod
    def from_client(
        cls,
        client: "redis.Redis | redis.asyncio.Redis",
        *,
        service: str | None = None,
        instance: str | None = None,
        version: str | None = None,
    ) -> Self:
        """A fleet that connects as `client` does; no connection of the client is used.

        Raises:
            ValueError: When the client has no single address, as for `RedisProbe.from_client`.
        """
        return cls._of(settings_of_client(client), service, instance, version)

    @classmethod
    def from_sentinel(
        cls,
        sentinels: Sequence[tuple[str, int]],
        service_name: str,
        *,
        url: str = "redis://",
        sentinel_url: str = "redis://",
        service: str | None = None,
        instance: str | None = None,
        version: str | None = None,
    ) -> Self:
        """A fleet on the master that sentinels name; see `RedisProbe.from_sentinel`.

        Raises:
            ValueError: When a URL, a host or a port cannot be used.
        """
        settings = settings_of_sentinels(
            sentinels, service_name, url=url, sentinel_url=sentinel_url
        )
        return cls._of(settings, service, instance, version)

    @classmethod
    def _of(
        cls,
        settings: RedisSettings,
        service: str | None,
        instance: str | None,
        version: str | None,
    ) -> Self:
        fleet = cls.__new__(cls)
        fleet._use(settings, service, instance, version)  # noqa: SLF001  it is one of our own
        return fleet

    def _use(
        self,
        settings: RedisSettings,
        service: str | None,
        instance: str | None,
        version: str | None,
    ) -> None:
        self._settings = settings
        self._identity = _identity(service, instance, version)
        self._keys = fleet_keys(self._identity.service)
        self._publisher: Publisher | None = None
        self._process = 0

    def __repr__(self) -> str:
        return f"<Fleet {self._identity.service} on {self._settings.where}>"

    @property
    def service(self) -> str:
        """The service under which it publishes."""
        return self._identity.service

    @property
    def fleet_size(self) -> int | None:
        """How many instances were alive when Redis last said so; `None` while it has not.

        Kept through an outage: the probe's pace follows it, so that the return makes no herd.
        """
        publisher = self._publisher
        return None if publisher is None else publisher.fleet_size

    @property
    def figures(self) -> FleetFigures:
        """What was done so far, in this start-up."""
        publisher = self._publisher
        if publisher is None:
            return FleetFigures()
        backlog = publisher.backlog
        return FleetFigures(
            backlog.sent, backlog.sent_again, backlog.dropped, backlog.behind, publisher.connects
        )

    def started(self, context: StartupContext) -> None:
        """Begin to publish a new incarnation; a disabled orchestrator is not published.

        Raises:
            RuntimeError: When it observes an orchestrator that is still running.
        """
        if self._process == os.getpid():
            raise RuntimeError(
                "this Fleet observes a running orchestrator already; give each its own"
            )
        self._publisher = None
        if not context.enabled:
            return
        identity = self._identity
        incarnation = new_incarnation(identity.instance)
        self._publisher = Publisher(
            FleetLink(self._settings),
            OwnState(context, identity, incarnation),
            self._keys,
            identity.service,
            incarnation,
            self._pace(context),
            LoopWatch(EventLoop().call),
        )
        self._process = os.getpid()
        forget_in_child(self)
        self._publisher.start()

    def _pace(self, context: StartupContext) -> KnockPace:
        policy, probed, own = context.policy, context.target, self._settings.target
        is_probed = (probed.system, probed.address, probed.port) == (
            own.system,
            own.address,
            own.port,
        )
        per_second = policy.connects_per_second or self._settings.connects_per_second
        step = FleetStep(lambda: max(policy.fleet_size, self.fleet_size or 1), per_second)
        return KnockPace(policy, step, follows_probe=is_probed)

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Note a fact."""
        if self._publisher is not None:
            self._publisher.note(fact, changed)

    def stopped(self, at: float) -> None:
        """Have the rest sent, and a goodbye."""
        self._process = 0
        if self._publisher is not None:
            self._publisher.leave()

    async def aclose(self) -> None:
        """Wait until it is sent, for up to 0.9 s; the event loop keeps running."""
        await anyio.lowlevel.checkpoint()
        publisher = self._publisher
        if publisher is None:
            return
        # No thread waits for it: Python 3.12 starts none while it ends.
        with anyio.move_on_after(_LEAVING_SECONDS):
            while not publisher.is_over:  # noqa: ASYNC110  a thread, which has no loop
                await anyio.sleep(_POLL_SECONDS)
        publisher.give_up()

    def forked(self) -> None:
        """This process is a new one, and publishes nothing until an orchestrator is entered."""
        if self._publisher is not None:
            self._publisher.abandon()
        self._publisher, self._process = None, 0


def _identity(service: str | None, instance: str | None, version: str | None) -> ServiceIdentity:
    """What is given, over what the environment says.

    Raises:
        TypeError: When one is no `str`.
        ValueError: When the service's name cannot be one, or nothing names it.
    """
    told = service_identity(os.environ)
    if service is None:
        service = _NO_SERVICE_CHARACTER.sub("-", told.service)[:_MOST_SERVICE_CHARACTERS]
        if not service:
            raise ValueError(
                "nothing names the service: write Fleet(url, service='chat'), or set"
                " ORCHESTRATOR_FLEET_SERVICE or OTEL_SERVICE_NAME"
            )
    if not is_service_name(require(service, str, "service", "give the name of the service")):
        raise ValueError(
            "service must be 1 to 64 of the characters A-Z a-z 0-9 . _ -, such as chat-api"
        )
    names = {"instance": instance, "version": version}
    for name, given in names.items():
        if given is not None:
            require(given, str, name, f"give the {name} as text")
    return ServiceIdentity(
        service,
        shorten(told.instance if instance is None else instance, MOST_NAME_BYTES),
        shorten(told.version if version is None else version, MOST_NAME_BYTES),
    )
