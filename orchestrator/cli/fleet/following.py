"""Following a fleet from a command, which has no event loop: what the thread brings, queued."""

import math
import queue
import time
from collections.abc import Mapping
from contextlib import suppress

from orchestrator.cli._shell.errors import Unreachable, UserError
from orchestrator.fleet._changes import ChangeBook
from orchestrator.fleet._fleet_reader import Delivery
from orchestrator.fleet._follower import Follower, read_failure
from orchestrator.fleet._news import FleetNews, Instance
from orchestrator.fleet._reader_link import ReaderLink, reader_settings
from orchestrator.fleet._redis_source import services_of
from orchestrator.fleet._wire import fleet_keys
from states import Failure, FailureKind

_MOST_SERVICES = 10


class Following:
    """All instances of a service, as of the last `news`.

    Args:
        url: The Redis that they publish to.
        service: The service.

    Attributes:
        instances: All known instances, by incarnation.
        failure: Why Redis does not answer; `None` while it does, and before it was asked.
        reached: Whether Redis answers; `None` before it was asked.
        was_reached: Whether it ever did.
        known_at: When what is known was so, in monotonic seconds.
    """

    def __init__(self, url: str, service: str) -> None:
        self.service = service
        self.instances: Mapping[str, Instance] = {}
        self.failure: Failure | None = None
        self.reached: bool | None = None
        self.was_reached = False
        self.known_at = -math.inf
        self._deliveries = queue.SimpleQueue[tuple[Delivery, Failure | None]]()
        self._follower = Follower(
            reader_settings(url),
            fleet_keys(service),
            ChangeBook(service),
            None,
            deliver=lambda *one: self._deliveries.put(one),
            has_room=lambda: True,
            ended=lambda: None,
        )

    @property
    def is_hopeless(self) -> bool:
        """Whether Redis can't be asked, and waiting won't help."""
        return self.failure is not None and self.failure.kind is FailureKind.PERMANENT

    def open(self) -> None:
        """Begin."""
        self._follower.start()

    def close(self) -> None:
        """End it."""
        self._follower.close()

    def news(self, timeout_seconds: float) -> list[FleetNews]:
        """What is new; none if nothing is, within the time."""
        news: list[FleetNews] = []
        with suppress(queue.Empty):
            news += self._take(*self._deliveries.get(timeout=max(0.0, timeout_seconds)))
            while True:
                news += self._take(*self._deliveries.get_nowait())
        return news

    def _take(self, delivery: Delivery, failure: Failure | None) -> list[FleetNews]:
        self.failure = failure
        self.reached = failure is None
        self.was_reached = self.was_reached or self.reached
        if self.reached:
            self.known_at = delivery.at
        if delivery.instances is not None:
            self.instances = delivery.instances
        return delivery.news

    @staticmethod
    def now() -> float:
        """Monotonic seconds."""
        return time.monotonic()


def only_service(url: str) -> str:
    """The name of the one service that publishes to this Redis.

    Raises:
        Unreachable: When Redis can't be asked.
        UserError: When there is none, or more than one.
    """
    link = ReaderLink(reader_settings(url))
    try:
        link.open()
        services = services_of(link)
    except Exception as error:  # each has its words
        raise Unreachable(
            f"{read_failure(error, link).reason}; --service names the service"
        ) from None
    finally:
        link.close()
    if not services:
        raise UserError(f"no service publishes to {link.where}; --service names one")
    if len(services) > 1:
        named = ", ".join(services[:_MOST_SERVICES])
        more = (
            f" and {len(services) - _MOST_SERVICES} more" if len(services) > _MOST_SERVICES else ""
        )
        raise UserError(f"there are several services: {named}{more}; choose with --service")
    return services[0]
