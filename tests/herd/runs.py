"""What is simulated, and what is run: each yields one line of the page."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks.part_herd import HerdRedis, capacity, stampede
from tests.herd.clients import MakeReturn, in_line, within
from tests.herd.clients import simulate as simulate_clients
from tests.herd.crowd import crowd
from tests.herd.pacing import USUAL, MakePace, ours
from tests.herd.servers import Crowded, Queue, Server
from tests.herd.simulation import simulate
from tests.redis_server import free_port

PER_SECOND = 10_000.0
"""How many connections the simulated servers can take."""

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000)
SEEDS = (1, 2, 3)
_MOST_SEEDED = 10_000
"""Larger fleets are run once: they are their own average."""

OURS = "orchestrator"
UNKNOWN = f"{OURS}, fleet not known"
_MOST_UNKNOWN = 10_000
"""Larger ones ask so often in the outage alone that nobody should leave their size unsaid."""

BACKLOG, QUEUE = "drops", "queue"

_ASSUMED = {BACKLOG: 8000.0, QUEUE: 2000.0}
"""What the instances take each server to accept: it is a guess, and wrong on purpose."""

_SERVERS: dict[str, Callable[[], Server]] = {
    BACKLOG: lambda: Queue(PER_SECOND, 511),
    QUEUE: lambda: Queue(PER_SECOND),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One fleet of one pace on one server: the median of its runs.

    Attributes:
        run: The kind of server.
        pace: Whose pace it is.
        size: How many instances there are.
        ideal: How long the server takes at least for 99 % of them, in seconds.
        half: When half of them were back, in seconds; `None` where they were not.
        most: When 99 % were.
        knocks_each: How many connections each had tried.
        peak: The most connections in a second, for each that the server can take.
    """

    run: str
    pace: str
    size: int
    ideal: float
    half: float | None
    most: float | None
    knocks_each: float
    peak: float | None = None

    @property
    def times(self) -> float | None:
        """99 % in multiples of what is possible."""
        return None if self.most is None else self.most / self.ideal


def paces(assumed: float) -> dict[str, MakePace]:
    """Ours, where the fleet is known and where it is not, and what is usual."""
    return {
        OURS: ours(assumed),
        f"{OURS}, fleet taken for a quarter": ours(assumed, 0.25),
        f"{OURS}, fleet taken for fourfold": ours(assumed, 4.0),
        UNKNOWN: ours(assumed, 0.0),
        **USUAL,
    }


def _simulated(run: str, pace: str, size: int) -> Line:
    make = paces(_ASSUMED[run])[pace]
    ideal = 0.99 * size / PER_SECOND
    # Who is not back after twice what is possible, and 20 s, is lost in the herd.
    limit = 2 * ideal + 20
    seeds = SEEDS if size <= _MOST_SEEDED else SEEDS[:1]
    return _line(run, pace, size, PER_SECOND, _SERVERS[run], make, seeds, limit)


@dataclass(frozen=True, slots=True)
class Room:
    """A Redis with room for a few clients: all that come in a turn, as many as there is room for.

    Attributes:
        size: How many instances there are.
        turn_seconds: How long a turn lasts.
        room: How many it lets in each turn.
    """

    size: int
    turn_seconds: float
    room: int


ROOMS = (Room(300, 0.1, 50), Room(1000, 0.1, 50), Room(1000, 0.02, 10), Room(3000, 0.05, 25))
CROWDED = "full"


def _crowded(room: Room, pace: str) -> Line:
    make = paces(8000.0)[pace]
    per_second = room.room / room.turn_seconds
    server = partial(Crowded, room.turn_seconds, room.room)
    return _line(CROWDED, pace, room.size, per_second, server, make, SEEDS, 60.0)


def _line(  # noqa: PLR0917  all that a line is made of
    run: str,
    pace: str,
    size: int,
    per_second: float,
    server: Callable[[], Server],
    make: MakePace,
    seeds: Iterable[int],
    limit: float,
) -> Line:
    found = [simulate(size, server(), make, seed=seed, most_seconds=limit) for seed in seeds]
    found.sort(key=lambda one: one.within(0.99))
    one = found[len(found) // 2]
    half, most = (None if one.within(share) > limit else one.within(share) for share in (0.5, 0.99))
    peak = one.most_per_second / per_second
    return Line(run, pace, size, 0.99 * size / per_second, half, most, one.knocks_each, peak)


CLIENTS = "clients"
CROWDS = ((1_000, 1_000.0), (5_000, 500.0), (5_000, 200.0), (20_000, 500.0))
"""How many clients there are, and how many a second the instance lets in."""

RETURNS: dict[str, MakeReturn] = {
    "in line": in_line,
    "within 1 to 3 s": within(1, 3),
    "within 1 to 10 s": within(1, 10),
    "within 1 to 60 s": within(1, 60),
}


def _clients(size: int, per_second: float, pace: str) -> Line:
    ideal = 0.99 * size / per_second
    limit = 3 * ideal + 60
    crowd = simulate_clients(size, per_second, RETURNS[pace], most_seconds=limit)
    half, most = (
        None if crowd.within(share) > limit else crowd.within(share) for share in (0.5, 0.99)
    )
    return Line(CLIENTS, pace, size, ideal, half, most, crowd.refusals_each)


def simulations(sizes: Iterable[int], workers: int | None = None) -> Iterator[Line]:
    """Every pace of instances on both servers, and on those with little room."""
    with ProcessPoolExecutor(workers) as pool:
        runs = [
            pool.submit(_simulated, run, pace, size)
            for size in sorted(sizes, reverse=True)  # the longest first
            for run in _SERVERS
            for pace in paces(1.0)
            if pace != UNKNOWN or size <= _MOST_UNKNOWN
        ]
        rooms = [pool.submit(_crowded, room, pace) for room in ROOMS for pace in paces(1.0)]
        for future in [*runs, *rooms]:
            yield future.result()


def clients() -> Iterator[Line]:
    """Every way to send clients away."""
    for size, per_second in CROWDS:
        for pace in RETURNS:
            yield _clients(size, per_second, pace)


REAL_ROOM = "room"
ROOM_FOR = 200
"""Of the clients that a real Redis with little room takes at once."""


def real_room(pace: str, count: int, *, room: int = ROOM_FOR, most_seconds: float = 30.0) -> Line:
    """So many real probers on one real Redis that has room for a few, and that leave at once."""
    with (
        tempfile.TemporaryDirectory() as directory,
        HerdRedis(Path(directory), None, room) as server,
    ):
        port = free_port()
        server.open(port)
        per_second = capacity(server, port, 2.0)
        server.open(0)
        herd = stampede(
            server,
            count,
            most_seconds=most_seconds,
            fleet_size=count if pace == OURS else 1,
            pace="own" if pace == OURS else pace,
        )
    half, most = (
        None if herd.within(share) > most_seconds else herd.within(share) for share in (0.5, 0.99)
    )
    return Line(REAL_ROOM, pace, count, 0.99 * count / per_second, half, most, herd.knocks_each)


CROWD = "crowd"
COMES_BACK = {"in line": True, "within 1 to 3 s": False}


def real_crowd(pace: str, size: int, slots: int = 8) -> Line:
    """So many real clients of one real instance."""
    came = crowd(size, slots=slots, in_line=COMES_BACK[pace])
    half, most = (
        came.seconds[at] if at < len(came.seconds) else None
        for at in (round(size * share) - 1 for share in (0.5, 0.99))
    )
    peak = came.most_in_a_second / came.measured_per_second
    return Line(CROWD, pace, size, came.ideal_seconds, half, most, came.visits_each, peak)


REAL = {"plain": None, "TLS, RSA-2048": 2048, "TLS, RSA-4096": 4096}
"""The real servers, with the bits of their keys."""


def real(name: str, count: int, *, known: bool = True, most_seconds: float = 60.0) -> Line:
    """So many real probers on one real Redis that comes back.

    Raises:
        RuntimeError: When this Redis has no TLS.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        HerdRedis(Path(directory), REAL[name], 3 * count + 500) as server,
    ):
        port = free_port()
        server.open(port)
        per_second = capacity(server, port, 3.0)
        server.open(0)
        fleet_size = count if known else 1
        herd = stampede(server, count, most_seconds=most_seconds, fleet_size=fleet_size)
    half, most = (
        None if herd.within(share) > most_seconds else herd.within(share) for share in (0.5, 0.99)
    )
    pace = OURS if known else UNKNOWN
    return Line(name, pace, count, 0.99 * count / per_second, half, most, herd.knocks_each)
