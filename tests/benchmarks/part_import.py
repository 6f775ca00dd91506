"""What importing costs, and what it costs a service until its first answer."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import TypeVar

from tests.benchmarks.import_process import Cost, Sink, Start, run_fresh, start_service
from tests.benchmarks.rows import Figure, Row, at_most
from tests.redis_server import RedisServer

PART = "import"
MOST_OF_FLOOR = dict.fromkeys(("wall_ms", "user_ms", "peak_mib"), 1.15)
MOST_OF_USED_FLOOR = {"wall_ms": 1.28, "user_ms": 1.22, "peak_mib": 1.15}
MOST_OF_PEER = {"first_response_ms": 1.08, "peak_mib": 0.99}
MOST_OF_PEER_ON_ANYIO = {"first_response_ms": 1.0, "peak_mib": 0.97}

OURS, FLOOR = "import orchestrator", "import anyio, transitions"
_IMPORTS = {OURS: OURS, FLOOR: FLOOR}

USED, USED_FLOOR = "an orchestrator, made", "the parts of anyio and transitions that it uses"
_USES = {
    USED: """
from orchestrator import Orchestrator, Probe
class Never(Probe):
    async def attempt(self, timeout_seconds): ...
    async def changed(self): ...
    async def aclose(self): ...
Orchestrator(Never(), conditions=["listener"])
""",
    # anyio loads its parts when they are first used, and these with asyncio and dataclasses.
    USED_FLOOR: """
import anyio, asyncio, dataclasses, transitions
import anyio.abc, anyio.lowlevel
anyio.Event, anyio.CancelScope, anyio.create_task_group, anyio.current_time
transitions.Machine(states=["a", "b"], initial="a")
""",
}

SERVICE, BARE = "with the orchestrator", "the bare service"
PEER = "redis-py and the SDK by hand"
PEER_ON_ANYIO = "the same, with anyio's event loop"
SERVICES = {
    SERVICE: ("import_service_ours", True),
    PEER: ("import_service_peer", True),
    PEER_ON_ANYIO: ("import_service_peer_anyio", True),
    BARE: ("import_service_bare", False),
}
"""The module of each service, and whether it sends traces."""

Measured = TypeVar("Measured", Cost, Start)
TakenT = TypeVar("TakenT")


def measure(rounds: int = 15, warm_up: int = 1, service_rounds: int = 11) -> Iterator[Row]:
    """All rows.

    Args:
        rounds: How often each process that imports is started.
        service_rounds: How often each service is.
        warm_up: How often before that, for the caches only.
    """
    note = "its names are loaded when they are first used, as those of anyio are"
    yield from imports(_IMPORTS, "importing", rounds, MOST_OF_FLOOR, warm_up, note)
    yield from imports(_USES, "importing and making", rounds, MOST_OF_USED_FLOOR, warm_up)
    yield from services(service_rounds, warm_up)


def imports(
    codes: Mapping[str, str],
    what: str,
    rounds: int,
    most: Mapping[str, float],
    warm_up: int = 1,
    note: str = "",
) -> Iterator[Row]:
    """Processes that import and end: ours first, then the floor."""
    taken = in_turns({name: _running(code) for name, code in codes.items()}, rounds, warm_up)
    for field, kind, unit in (
        ("wall_ms", "time from start to end of a process", "ms"),
        ("user_ms", "processor time in user mode", "ms"),
        ("peak_mib", "peak memory", "MiB"),
    ):
        ours, floor = (figure(name, taken[name], field) for name in codes)
        yield Row(
            part=PART,
            what=f"{what}: {kind}",
            unit=unit,
            ours=replace(ours, note=note),
            floor=floor,
            verdicts=(at_most(ours, most[field], floor),),
        )


def _running(code: str) -> Callable[[], Cost]:
    return lambda: run_fresh(code)


def services(rounds: int, warm_up: int = 1) -> Iterator[Row]:
    """The same small service four times: ours, by hand, by hand on anyio, and bare."""
    with RedisServer() as redis, Sink() as sink:

        def starting(module: str, traces: bool) -> Callable[[], Start]:
            return lambda: start_service(module, redis.url, sink, traces=traces)

        started = {name: starting(*of) for name, of in SERVICES.items()}
        taken = in_turns(started, rounds, warm_up)
    for field, kind, unit in (
        ("first_response_ms", "from the process's start to its first response", "ms"),
        ("processor_ms", "processor time until then", "ms"),
        ("response_mib", "peak memory until then", "MiB"),
        ("peak_mib", "peak memory with the first trace sent", "MiB"),
        ("modules", "modules loaded before the first response", "modules"),
    ):
        ours, peer, on_anyio, bare = (figure(name, taken[name], field) for name in SERVICES)
        yield Row(
            part=PART,
            what=f"a service with Redis and telemetry: {kind}",
            unit=unit,
            ours=ours,
            peers=(peer, on_anyio),
            floor=bare,
            verdicts=(
                at_most(ours, MOST_OF_PEER[field], peer),
                at_most(ours, MOST_OF_PEER_ON_ANYIO[field], on_anyio),
            )
            if field in MOST_OF_PEER
            else (),
        )


def in_turns(
    candidates: Mapping[str, Callable[[], TakenT]], rounds: int, warm_up: int
) -> dict[str, list[TakenT]]:
    """Let all of them run in turns; what they yield while they warm up does not count."""
    taken: dict[str, list[TakenT]] = {name: [] for name in candidates}
    names = list(candidates)
    for number in range(-warm_up, rounds):
        for name in names:
            measured = candidates[name]()
            if number >= 0:
                taken[name].append(measured)
        names.append(names.pop(0))
    return taken


def figure(name: str, taken: list[Measured], field: str) -> Figure:
    """One of the figures that each run yielded."""
    assert field in {known.name for known in fields(taken[0])}
    return Figure(name, tuple(getattr(measured, field) for measured in taken))
