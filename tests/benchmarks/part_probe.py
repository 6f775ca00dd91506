"""What it costs to ask Redis once: time, commands, round trips, and the processor time of Redis."""

import importlib.util
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import anyio
import redis

from tests.benchmarks import probe_peers as known
from tests.benchmarks.measure import ROUNDS, Candidate, interleaved
from tests.benchmarks.probe_counting import commands_so_far, processor_seconds
from tests.benchmarks.rows import Figure, Row, Verdict, at_most
from tests.redis_server import FakeServer, RedisServer

PART = "probe"
PEER = {"asyncio": known.REDIS_ASYNCIO, "trio": known.REDIS_THREAD}
"""What an application asks with on each event loop: redis-py has nothing for trio."""

MOST_KEPT, MOST_FRESH, MOST_OF_RAW = 0.22, 0.45, 3.0
"""Times redis-py in a thread that is kept and in a new one; times the raw socket, in the first."""

_KEPT = "ours, its thread kept"


def measure(
    rounds: int = ROUNDS, fresh: int = 100, warm: int = 500, warm_up: int = 1
) -> Iterator[Row]:
    """Measure the part; `fresh` and `warm` are how many probes make one value."""
    # The server's own clock runs at its usual rate, so that an idle server costs next to nothing.
    with RedisServer(None, "--hz", "10") as server:
        for backend in PEER:
            yield from fresh_rows(backend, server, rounds, fresh, warm_up)
            yield warm_row(backend, server, rounds, warm, warm_up)
        yield processor_row(server, rounds, 3 * fresh, warm_up)
        yield from count_rows("without a password", server.url, server)
    with RedisServer(None, "--requirepass", "secret") as server:
        url = f"redis://:secret@127.0.0.1:{server.port}/0"
        yield from count_rows("with a password", url, server)


def present(names: Mapping[str, known.Fresh]) -> dict[str, known.Fresh]:
    """Those that can run; says on stderr why the others cannot."""
    missing = {"coredis"} if importlib.util.find_spec("coredis") is None else set()
    for name in missing:
        print(f"{name} is left out: it is not installed", file=sys.stderr)  # a benchmark prints
    return {name: peer for name, peer in names.items() if name not in missing}


def row(
    what: str,
    unit: str,
    figures: Mapping[str, Figure],
    *verdicts: Verdict,
    floor: Figure | None = None,
    note: str = "",
) -> Row:
    """A row; what is not ours, a floor or a part of one, is a peer."""
    apart = {known.OURS, known.RAW, known.SYNC, known.HOP}
    ours = figures[known.OURS]
    return Row(
        part=PART,
        what=what,
        unit=unit,
        ours=Figure(ours.name, ours.values, note),
        peers=tuple(figure for name, figure in figures.items() if name not in apart),
        floor=floor or figures.get(known.RAW),
        verdicts=verdicts,
    )


def fresh_rows(
    backend: str, server: RedisServer, rounds: int, number: int, warm_up: int
) -> Iterator[Row]:
    """Connect, PING and close: in a thread that is kept, and in a new one."""
    candidates: dict[str, Candidate] = {
        name: partial(anyio.run, known.time_fresh, fresh, server.url, number, backend=backend)
        for name, fresh in present(known.FRESH[backend]).items()
    }
    kept: Candidate = partial(
        anyio.run, known.time_warm, known.ours_kept, server.url, number, backend=backend
    )
    figures = interleaved({_KEPT: kept, **candidates}, rounds=rounds, warm_up=warm_up)
    ours = figures.pop(_KEPT)
    peer = figures[PEER[backend]]
    what = f"connect, PING and close, {backend}"
    yield row(
        f"{what}, in a thread that is kept, as a service does it",
        "µs",
        figures | {known.OURS: Figure(known.OURS, ours.values)},
        at_most(ours, MOST_KEPT, peer),
        at_most(ours, MOST_OF_RAW, figures[known.RAW]),
    )
    verdict = at_most(figures[known.OURS], MOST_FRESH, peer)
    yield row(f"{what}, in a new thread each time", "µs", figures, verdict)


def warm_row(backend: str, server: RedisServer, rounds: int, number: int, warm_up: int) -> Row:
    """PING over an open connection."""
    peers = known.WARM[backend]
    if "coredis" not in present(known.FRESH[backend]):
        peers = {name: peer for name, peer in peers.items() if name != "coredis"}
    candidates: dict[str, Candidate] = {
        name: partial(anyio.run, known.time_warm, warm, server.url, number, backend=backend)
        for name, warm in peers.items()
    }
    figures = interleaved(candidates, rounds=rounds, warm_up=warm_up)
    parts = zip(figures[known.SYNC].values, figures[known.HOP].values, strict=True)
    floor = Figure(f"{known.SYNC} + {known.HOP}", tuple(map(sum, parts)))
    verdict = at_most(figures[known.OURS], 1.5, floor)
    return row(f"PING, {backend}", "µs", figures, verdict, floor=floor)


def processor_row(server: RedisServer, rounds: int, number: int, warm_up: int) -> Row:
    """Connect, PING and close, as Redis pays for it."""
    with redis.Redis.from_url(server.url) as watcher:

        def costing(fresh: known.Fresh) -> Callable[[], float]:
            def run() -> float:
                before = processor_seconds(watcher)
                anyio.run(known.time_fresh, fresh, server.url, number)
                return (processor_seconds(watcher) - before) / number * 1e6

            return run

        peers = present(known.FRESH["asyncio"])
        figures = interleaved(
            {name: costing(fresh) for name, fresh in peers.items()}, rounds=rounds, warm_up=warm_up
        )
    verdict = at_most(figures[known.OURS], 0.5, figures[known.REDIS_ASYNCIO])
    what = "processor time of Redis for one connect, PING and close"
    return row(what, "µs", figures, verdict, note="by INFO cpu")


def count_rows(how: str, url: str, server: RedisServer) -> Iterator[Row]:
    """Commands and round trips of the first answer; they do not vary, so they are counted once."""
    # A raw socket would have to log in by itself.
    peers = {
        name: one for name, one in present(known.FRESH["asyncio"]).items() if name != known.RAW
    }
    commands = {name: counted_commands(url, fresh) for name, fresh in peers.items()}
    trips = {name: counted_trips(url, server.port, fresh) for name, fresh in peers.items()}
    figures = {name: Figure(name, (float(count),)) for name, count in commands.items()}
    # The probe says what the client says: so many, and in one go.
    ours, most = commands[known.OURS], commands[known.REDIS_ASYNCIO]
    verdict = Verdict(f"{ours} (at most {most}, as the client)", ours <= most)
    note = "by INFO commandstats and error replies"
    yield row(f"commands to the first answer, {how}", "commands", figures, verdict, note=note)
    figures = {name: Figure(name, (float(count),)) for name, count in trips.items()}
    verdict = Verdict(f"{trips[known.OURS]} (at most 1)", trips[known.OURS] == 1)
    note = "by a relay that sees both directions"
    yield row(f"round trips to the first answer, {how}", "trips", figures, verdict, note=note)


def counted_commands(url: str, fresh: known.Fresh) -> int:
    """How many commands Redis is sent for one answer."""
    with redis.Redis.from_url(url) as watcher:
        before = commands_so_far(watcher)
        anyio.run(fresh, url)
        return commands_so_far(watcher) - before


def counted_trips(url: str, port: int, fresh: known.Fresh) -> int:
    """How often the client waits for the server."""
    trips = 0
    lock = threading.Lock()

    def talk(client: socket.socket) -> None:
        nonlocal trips
        with socket.create_connection(("127.0.0.1", port)) as upstream:
            asked = False
            while True:
                readable, _, _ = select.select([client, upstream], [], [])
                source, sink = (client, upstream) if client in readable else (upstream, client)
                data = source.recv(65536)
                if not data:
                    return
                if source is client and not asked:
                    with lock:
                        trips += 1
                asked = source is client
                sink.sendall(data)

    with FakeServer(talk) as relay:
        anyio.run(fresh, url.replace(f":{port}/", f":{relay.port}/"))
    return trips
