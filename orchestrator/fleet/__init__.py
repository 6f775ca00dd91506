"""Many instances of a service, on the service's own Redis.

Reading: `follow` gives all instances of a service as they are now, and the news of them.
Example::

    async with follow("redis://localhost", service="chat") as fleet:
        async for news in fleet:
            print(news)
"""

from orchestrator.fleet._fleet_view import FleetUnreachable, FleetView
from orchestrator.fleet._follow import follow
from orchestrator.fleet._news import (
    Change,
    Contact,
    FleetNews,
    Instance,
    Missed,
    Presence,
    SilentTogether,
)
from orchestrator.fleet._presence import PresenceVerdict
from orchestrator.fleet._wire import FleetCondition, FleetEntry, FleetState

__all__ = [
    "Change",
    "Contact",
    "FleetCondition",
    "FleetEntry",
    "FleetNews",
    "FleetState",
    "FleetUnreachable",
    "FleetView",
    "Instance",
    "Missed",
    "Presence",
    "PresenceVerdict",
    "SilentTogether",
    "follow",
]
