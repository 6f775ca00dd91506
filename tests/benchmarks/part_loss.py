"""How soon it is known that Redis is lost, and what it costs Redis to be watched.

All candidates watch the same servers, each of which is killed or frozen at a random moment; pollers
are anywhere in their interval then, those that are slow too, in real time. What being watched costs
is counted meanwhile, on servers that each have one watcher only.
"""

import random
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import redis

from tests.benchmarks import detection_watchers as known
from tests.benchmarks.detection_crew import HEAD_START_SECONDS, Crew, Job, Outcome
from tests.benchmarks.detection_servers import Late, prepared, signal_at, start_all
from tests.benchmarks.probe_counting import commands_so_far
from tests.benchmarks.rows import Figure, Row, Verdict, at_most

PART = "loss"
MODULE = known.__name__

STEADY_SECONDS = 6.0
"""When ours is at its steady pace, even where its first answer was late."""

INTERVAL_SECONDS = 5.0
"""Of ours, within which the loss comes at any moment."""

FROZEN_SECONDS = 30.0
"""What three failures take where each of them is a timeout."""

Latencies = dict[str, tuple[float, ...]]
"""In seconds, by candidate."""


def measure(
    trials: int = 16,
    window_seconds: float = 40.0,
    names: Sequence[str] = tuple(known.CANDIDATES),
) -> Iterator[Row]:
    """Measure the part: so many servers are killed and as many frozen; costs are for a window."""
    with ExitStack() as stack:
        crew = stack.enter_context(Crew(MODULE, names))
        watchers = {name: stack.enter_context(Crew(MODULE, [name])) for name in names}
        watched = {name: Late(time.monotonic()) for name in names}
        servers = [Late(time.monotonic()) for _ in range(2 * trials)]
        stack.enter_context(prepared([*watched.values(), *servers]))
        start_all([*watched.values(), *servers])
        costs: dict[str, float] = {}
        counting = threading.Thread(
            target=count, args=(watchers, watched, window_seconds, costs), daemon=True
        )
        counting.start()
        killed, frozen = losses(crew, servers)
        counting.join()
    yield from latency_rows("SIGKILL of Redis to degraded", killed, known.EQUAL, 0.2)
    yield from latency_rows("SIGSTOP of Redis to degraded", frozen, known.EQUAL_THRICE, 1.0)
    yield from cost_rows(costs)


def losses(crew: Crew, servers: Sequence[Late]) -> tuple[Latencies, Latencies]:
    """Kill the first half of the servers and freeze the others."""
    begin = time.monotonic() + HEAD_START_SECONDS
    jobs = [Job(server.url, begin, random.random()) for server in servers]
    limit = STEADY_SECONDS + INTERVAL_SECONDS + known.SLOWEST_SECONDS + FROZEN_SECONDS
    crew.begin(jobs, limit)
    moments = [begin + STEADY_SECONDS + random.uniform(0, INTERVAL_SECONDS) for _ in servers]
    signals = [signal.SIGKILL, signal.SIGSTOP]
    half = len(servers) // 2
    places = [0] * half + [1] * (len(servers) - half)
    sent = signal_at(
        [
            (moment, server.pid, signals[place])
            for moment, server, place in zip(moments, servers, places, strict=True)
        ]
    )
    found = crew.outcomes()
    by_kind: list[Latencies] = [{}, {}]
    for name, outcomes in found.items():
        for kind in (0, 1):
            by_kind[kind][name] = tuple(
                latency(name, outcome, at)
                for outcome, at, place in zip(outcomes, sent, places, strict=True)
                if place == kind
            )
    return by_kind[0], by_kind[1]


def latency(name: str, outcome: Outcome, lost_at: float) -> float:
    """In seconds; whoever found Redis lost before it was did not do the job."""
    taken = outcome.known_at - lost_at
    if outcome.resumed != 1 or taken < 0:
        raise RuntimeError(f"{name} was resumed {outcome.resumed} times, after {taken:.3g} s")
    return taken


def count(
    watchers: dict[str, Crew], watched: dict[str, Late], seconds: float, costs: dict[str, float]
) -> None:
    """Commands a minute by watcher, from its second second on."""
    begin = time.monotonic() + HEAD_START_SECONDS
    for name, crew in watchers.items():
        crew.begin([Job(watched[name].url, begin)], 2 * seconds + known.SLOWEST_SECONDS)
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(redis.Redis.from_url(server.url))
            for name, server in watched.items()
        }
        time.sleep(begin + min(2.0, seconds) - time.monotonic())
        before = {name: commands_so_far(client) for name, client in clients.items()}
        time.sleep(seconds)
        for name, client in clients.items():
            costs[name] = (commands_so_far(client) - before[name]) * 60 / seconds


def latency_rows(what: str, latencies: Latencies, like: str, times: float) -> Iterator[Row]:
    """For each event loop one."""
    figures = {name: Figure(name, values) for name, values in latencies.items()}
    for name in (known.OURS, known.OURS_TRIO):
        note = f"{name}; at the third failure in a row"
        verdicts = (at_most(figures[name], times, figures[like]),) if like in figures else ()
        yield row(what, "s", Figure(name, figures[name].values, note), figures, *verdicts)


def cost_rows(costs: dict[str, float]) -> Iterator[Row]:
    """For each event loop one."""
    figures = {name: Figure(name, (cost,)) for name, cost in costs.items()}
    for name in (known.OURS, known.OURS_TRIO):
        ours = Figure(name, figures[name].values, f"{name}; by INFO commandstats")
        # Each interval of ours is varied by up to a tenth.
        verdicts = (at_most(ours, 1.1, figures[known.EQUAL]),) if known.EQUAL in figures else ()
        yield row("commands that being ready costs Redis", "a minute", ours, figures, *verdicts)


def row(what: str, unit: str, ours: Figure, figures: dict[str, Figure], *verdicts: Verdict) -> Row:
    """A row of all candidates, except ours on the other event loop."""
    both = {known.OURS, known.OURS_TRIO}
    peers = tuple(figure for name, figure in figures.items() if name not in both)
    return Row(part=PART, what=what, unit=unit, ours=ours, peers=peers, verdicts=verdicts)
