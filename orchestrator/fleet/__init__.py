"""Many instances of a service, on the service's own Redis.

Publishing: `Fleet` is an observer that says how this instance stands::

    startup = Orchestrator(RedisProbe(url), observers=[Fleet(url, service="chat")])

Reading: `follow` gives all instances of a service as they are now, and the news of them::

    async with follow("redis://localhost", service="chat") as fleet:
        async for news in fleet:
            print(news)

Each name is loaded when it is first used, so that publishing loads redis-py no sooner than the
probe does.
"""

from orchestrator._hardening.lazy_names import lazy_names

# As type checkers know it.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from orchestrator.fleet._fleet import Fleet, FleetFigures
    from orchestrator.fleet._fleet_app import fleet_app
    from orchestrator.fleet._fleet_view import FleetUnreachable, FleetView
    from orchestrator.fleet._follow import follow, follow_sentinel
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
    "Fleet",
    "FleetCondition",
    "FleetEntry",
    "FleetFigures",
    "FleetNews",
    "FleetState",
    "FleetUnreachable",
    "FleetView",
    "Instance",
    "Missed",
    "Presence",
    "PresenceVerdict",
    "SilentTogether",
    "fleet_app",
    "follow",
    "follow_sentinel",
]

_MODULES = {
    "_fleet": ("Fleet", "FleetFigures"),
    "_fleet_app": ("fleet_app",),
    "_fleet_view": ("FleetUnreachable", "FleetView"),
    "_follow": ("follow", "follow_sentinel"),
    "_news": (
        "Change",
        "Contact",
        "FleetNews",
        "Instance",
        "Missed",
        "Presence",
        "SilentTogether",
    ),
    "_presence": ("PresenceVerdict",),
    "_wire": ("FleetCondition", "FleetEntry", "FleetState"),
}

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _MODULES, globals())
