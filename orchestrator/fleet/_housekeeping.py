"""What an instance does for the whole fleet now and then. If Redis refuses, nothing is lost.

- It names the service in the list of services, for people.
- It gives a lease that has ended to states that have none, a few at a time: Redis may have evicted
  the leases alone. Living instances renew theirs in time, and without a lease the others would
  never be swept.
"""

import math
import time

from orchestrator.fleet._link import FleetLink, FleetScript, LinkError
from orchestrator.fleet._scripts import ADOPT
from orchestrator.fleet._wire import SERVICES_KEY, FleetKeys

_SERVICE_SECONDS = 3600.0
_ADOPT_SECONDS = 60.0
_MOST_ADOPTED = 16

_ADOPT = FleetScript(ADOPT)


class Housekeeping:
    """Does what is due.

    Args:
        link: The way to Redis.
        keys: The keys of the service.
        service: The service.
    """

    def __init__(self, link: FleetLink, keys: FleetKeys, service: str) -> None:
        self._link = link
        self._keys = keys
        self._service = service
        self._service_at = -math.inf
        self._adopt_at = time.monotonic() + _ADOPT_SECONDS

    def lost(self) -> None:
        """Redis has lost data: the list of services, too, probably."""
        self._service_at = -math.inf

    def keep(self, *, all_could_beat: bool) -> None:
        """Do it.

        Args:
            all_could_beat: Whether whoever lives has had the time to renew its lease.

        Raises:
            LinkError: When the connection fails.
        """
        now = time.monotonic()
        if now >= self._service_at:
            self._service_at = now + _SERVICE_SECONDS
            self._link.try_to("ZADD", SERVICES_KEY, f"{time.time():.3f}", self._service)
        if all_could_beat and now >= self._adopt_at:
            self._adopt_at = now + _ADOPT_SECONDS
            self._adopt()

    def _adopt(self) -> None:
        try:
            self._link.run(_ADOPT, (self._keys.instances, self._keys.leases), [_MOST_ADOPTED])
        except LinkError as error:
            if error.closed:
                raise
