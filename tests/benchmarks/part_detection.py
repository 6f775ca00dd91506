"""How soon it is known that Redis answers again, and how many attempts that takes.

Every candidate waits for the same servers at the same time, or for its own where all react at once
and would wait for each other's processor. A server starts or goes on at a random moment; what is
counted begins when it can answer (`detection_servers`), and ends when the task that waits is
resumed: a subscriber of ours is told of `grace`.
"""

import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles
from typing import TypeVar

from orchestrator import Policy
from tests.benchmarks import detection_candidates as known
from tests.benchmarks import detection_commands as commands
from tests.benchmarks.detection_crew import HEAD_START_SECONDS, Crew, Job, Outcome, installed
from tests.benchmarks.detection_servers import Late, prepared, signal_at, start_all
from tests.benchmarks.rows import Figure, Plot, Row, Series, Verdict, at_most

T = TypeVar("T")

PART = "detection"
MODULE = known.__name__
WAVE = 20
"""So many servers at once: with more of them the candidates would wait for the processor."""

OUTAGES: Mapping[float, int] = {1.0: 40, 5.0: 20, 30.0: 20}
"""Trials by the length of the outage in seconds."""

OURS = (known.OURS, known.OURS_TRIO)
UNIX = (*OURS, "loop, 0.1 s", known.ORIGINAL)
FROZEN = (*OURS, known.PATIENT, known.IN_FLIGHT, known.RAW_IN_FLIGHT)

_LOG_READ_MS = 20.0
"""How late a server's log line may be read on a busy machine."""

COUNTED_BY = "attempts are counted by the candidate, the good one included"

Trials = dict[str, list[tuple[float, int, float]]]
"""By candidate: latency in ms, attempts, and how long the outage was in seconds."""


def measure(
    outages: Mapping[float, int] = OUTAGES, unix: int = 20, frozen: int = 20, waits: int = 14
) -> Iterator[Row | Plot]:
    """Measure the part; the arguments are numbers of trials."""
    lines: dict[str, list[tuple[float, float]]] = {}
    waiting = [name for name in known.CANDIDATES if name in OURS or name not in FROZEN]
    with Crew(MODULE, installed({name: known.CANDIDATES[name] for name in waiting})) as crew:
        for seconds, number in outages.items():
            trials = outage_trials(crew, seconds, number)
            yield from outage_rows(seconds, trials)
            for name, taken in trials.items():
                attempts = median(attempts for _ms, attempts, _s in taken)
                lines.setdefault(name, []).append((attempts, p99([ms for ms, *_rest in taken])))
    yield Plot(
        part=PART,
        name="detection-cost",
        title="Outages of " + ", ".join(f"{seconds:g}" for seconds in outages) + " s",
        x_label="attempts in the outage",
        y_label="p99 latency (ms)",
        series=tuple(Series(name, tuple(points)) for name, points in lines.items()),
    )
    yield from unix_rows(unix)
    yield from frozen_rows(frozen)
    yield from command_rows(waits)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile, interpolated."""
    return quantiles(values, n=100, method="inclusive")[98]


def waves(number: int, most: int = WAVE) -> Iterator[int]:
    """`number` in portions."""
    while number > 0:
        yield min(number, most)
        number -= most


def outage_trials(crew: Crew, seconds: float, number: int, most: int = WAVE) -> Trials:
    """Outages around `seconds`, all candidates waiting for the same servers."""
    trials: Trials = {}
    for size in waves(number, most):
        begins, servers = late_servers(size, seconds)
        with prepared(servers):
            first = shift(servers)
            jobs = [Job(server.url, first + at) for server, at in zip(servers, begins, strict=True)]
            crew.begin(jobs, limit(servers))
            start_all(servers)
            found = crew.outcomes()
        for name, outcomes in found.items():
            for server, outcome, begin in zip(servers, outcomes, begins, strict=True):
                trial = (
                    latency_ms(name, outcome, server.ready_at),
                    outcome.attempts,
                    server.ready_at - first - begin,
                )
                trials.setdefault(name, []).append(trial)
    return {name: taken for name, taken in trials.items() if len(taken) == number}


def late_servers(
    number: int, seconds: float, path: Callable[[int], str] = lambda _: ""
) -> tuple[list[float], list[Late]]:
    """When outages begin, and servers that end them; in seconds from the beginning of the wave.

    They are spread so far that a poller's phase is a matter of chance.
    """
    half = max(0.5, min(5.0, seconds / 4))
    begins = [random.uniform(0, 1) for _ in range(number)]
    servers = [
        Late(at + seconds + random.uniform(-half, half), path(place))
        for place, at in enumerate(begins)
    ]
    return begins, servers


def shift(servers: Sequence[Late]) -> float:
    """Let the wave begin now, since all processes are prepared; return when it does."""
    first = time.monotonic() + HEAD_START_SECONDS
    for server in servers:
        server.start_at += first
    return first


def limit(servers: Sequence[Late]) -> float:
    """How long a wave may take, in seconds from now."""
    last = max(server.start_at for server in servers)
    return last - time.monotonic() + 2 * known.CAP_SECONDS


def latency_ms(name: str, outcome: Outcome, ready_at: float) -> float:
    """How late it was known, for one who really did the job.

    The server may answer before its log line, which is on its way since then, has been read.
    """
    latency = (outcome.known_at - ready_at) * 1e3
    if outcome.resumed != 1 or latency < -_LOG_READ_MS:
        raise RuntimeError(f"{name} was resumed {outcome.resumed} times, {latency:.3g} ms late")
    return max(0.0, latency)


def outage_rows(seconds: float, trials: Trials) -> Iterator[Row]:
    """Latency, its 99th percentile and attempts."""
    of = f"an outage of {seconds:g} s"
    latencies = {name: tuple(ms for ms, *_rest in taken) for name, taken in trials.items()}
    counts = {name: tuple(float(n) for _ms, n, _s in taken) for name, taken in trials.items()}
    slow = {name: (p99(values),) for name, values in latencies.items()}
    for name in OURS:
        peers = [peer for peer in trials if peer not in OURS]
        front = [
            Verdict(*pareto(name, peers, latencies, counts, "p50", median)),
            Verdict(*pareto(name, peers, latencies, counts, "p99", p99)),
        ]
        step = steps(trials[name])
        yield row(f"Redis answers to subscriber told, after {of}", "ms", name, latencies, *front)
        yield row(f"the same, 99th percentile, after {of}", "ms", name, slow, step)
        yield row(f"attempts in {of}", "attempts", name, counts, note=COUNTED_BY)


def row(
    what: str,
    unit: str,
    ours: str,
    values: Mapping[str, tuple[float, ...]],
    *verdicts: Verdict,
    note: str = "",
) -> Row:
    """A row of all candidates, except ours on the other event loop."""
    floor = values.get(known.RAW_IN_FLIGHT)
    peers = [name for name in values if name not in {*OURS, known.RAW_IN_FLIGHT}]
    return Row(
        part=PART,
        what=what,
        unit=unit,
        ours=Figure(ours, values[ours], f"{ours}; {note}" if note else ours),
        peers=tuple(Figure(name, values[name]) for name in peers),
        floor=Figure(known.RAW_IN_FLIGHT, floor) if floor else None,
        verdicts=verdicts,
    )


def pareto(
    ours: str,
    peers: Sequence[str],
    latencies: Mapping[str, Sequence[float]],
    counts: Mapping[str, Sequence[float]],
    what: str,
    percentile: Callable[[Sequence[float]], float],
) -> tuple[str, bool]:
    """Whether no peer is better in both, latency and attempts."""
    cost, late = mean(counts[ours]), percentile(latencies[ours])
    better = [
        peer for peer in peers if percentile(latencies[peer]) < late and mean(counts[peer]) < cost
    ]
    if better:
        said = ", ".join(better)
        return f"{said} has both a lower {what} and fewer attempts", False
    return f"no peer has both a lower {what} ({late:.3g} ms) and fewer attempts ({cost:.3g})", True


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean: counts are too few for a median to tell them apart."""
    return sum(values) / len(values)


def steps(taken: Sequence[tuple[float, int, float]]) -> Verdict:
    """The target that the return is noticed within the step that the schedule has come to."""
    policy = Policy()
    shares = []
    for latency, _attempts, outage in taken:
        step = max(policy.retry_steady_seconds, outage * policy.retry_outage_fraction)
        shares.append(latency / 1e3 / min(step, policy.retry_cap_seconds))
    slow = p99(shares)
    return Verdict(f"p99 is {slow:.3g} x the schedule's step (at most 1.1)", slow <= 1.1)


def unix_rows(number: int) -> Iterator[Row]:
    """A Unix socket appears, which can be watched."""
    latencies: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="redis-") as folder, Crew(MODULE, UNIX) as crew:

        def path(place: int) -> str:
            # Each in a folder of its own, as a server has it: what happens to one wakes no other.
            Path(folder, str(place)).mkdir(exist_ok=True)
            Path(folder, str(place), "socket").unlink(missing_ok=True)
            return str(Path(folder, str(place), "socket"))

        for size in waves(number, WAVE // 2):
            begins, servers = late_servers(size * len(UNIX), 2.0, path)
            with prepared(servers):
                first = shift(servers)
                jobs = [
                    Job(server.url, first + at) for server, at in zip(servers, begins, strict=True)
                ]
                crew.begin_each(dealt(UNIX, jobs), limit(servers))
                start_all(servers)
                found = crew.outcomes()
            for name, own in dealt(UNIX, servers).items():
                latencies.setdefault(name, []).extend(
                    latency_ms(name, outcome, server.ready_at)
                    for outcome, server in zip(found[name], own, strict=True)
                )
    values = {name: tuple(taken) for name, taken in latencies.items()}
    for name in OURS:
        ratio = median(values[name]) / median(values[known.ORIGINAL])
        verdict = Verdict(
            f"1/{1 / ratio:.0f} of {known.ORIGINAL} (at most 1/200)", ratio <= 1 / 200
        )
        what = "Redis answers on a Unix socket to subscriber told, outage of 2 s"
        yield row(what, "ms", name, values, verdict)


def dealt(names: Sequence[str], things: Sequence[T]) -> dict[str, list[T]]:
    """Each candidate's own: those that react at once would wait for each other's processor."""
    return {name: list(things[place :: len(names)]) for place, name in enumerate(names)}


def frozen_rows(number: int) -> Iterator[Row]:
    """A frozen server that goes on: it was connected to, and nothing came."""
    latencies: dict[str, tuple[float, ...]] = {}
    with Crew(MODULE, FROZEN) as crew:
        for size in waves(number):
            for name, values in thaws(crew, size).items():
                latencies[name] = (*latencies.get(name, ()), *values)
    in_flight = Figure(known.IN_FLIGHT, latencies[known.IN_FLIGHT])
    for name in OURS:
        verdict = at_most(Figure(name, latencies[name]), 1.5, in_flight)
        yield row("a frozen Redis thaws to subscriber told", "ms", name, latencies, verdict)


def thaws(crew: Crew, number: int) -> dict[str, tuple[float, ...]]:
    """The latencies of one wave, in ms; each candidate has servers of its own."""
    servers = [Late(time.monotonic()) for _ in range(number * len(FROZEN))]
    with prepared(servers):
        start_all(servers)
        signal_at([(0.0, server.pid, signal.SIGSTOP) for server in servers])
        begin = time.monotonic() + HEAD_START_SECONDS
        thaw = signal.SIGCONT
        moments = [(begin + random.uniform(1.5, 5.5), server.pid, thaw) for server in servers]
        crew.begin_each(dealt(FROZEN, [Job(server.url, begin) for server in servers]), 20.0)
        sent = signal_at(moments)
        found = crew.outcomes()
    return {
        name: tuple(
            latency_ms(name, outcome, at) for outcome, at in zip(found[name], own, strict=True)
        )
        for name, own in dealt(FROZEN, sent).items()
    }


def command_rows(number: int) -> Iterator[Row]:
    """What waits in front of a program, from when Redis can answer to the end of the command."""
    with Crew(commands.__name__, list(commands.CANDIDATES)) as crew:
        trials = outage_trials(crew, commands.OUTAGE_SECONDS, number, commands.WAVE)
    latencies = {name: [ms for ms, *_rest in taken] for name, taken in trials.items()}
    yield commands.command_row(PART, latencies)
