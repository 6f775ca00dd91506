"""What a fleet costs Redis and the event loop.

A call is counted in processor time of the server, as it says itself, with one client that asks one
question after the other; the floor is a PING asked likewise. The state that a beat finds has the
usual size. On the event loop, a fact that is noted stands beside an observer that does nothing.
"""

import time
from collections.abc import Callable

import redis

from orchestrator import Observer, ProbeSucceeded
from orchestrator.fleet._encode import encode_entry, encode_state
from orchestrator.fleet._scripts import APPEND, BEAT
from orchestrator.fleet._wire import ENTRY_FIELDS, FleetEntry, FleetState, fleet_keys
from orchestrator.redis._url import settings_of_url
from states import Stage
from tests.benchmarks.fleet_reading import change_row, snapshot_row
from tests.benchmarks.measure import ROUNDS, Candidate, interleaved, per_call
from tests.benchmarks.rows import Row, at_most
from tests.fleet.published import Published
from tests.redis_server import RedisServer

PART = "fleet"
CALLS, FACTS, INSTANCES, CHANGES = 2_000, 20_000, 1_000, 20

_MOST_TIMES = 3.0
_OBSERVER_TIMES = 4.0

KEYS = fleet_keys("chat")


def entry_of(number: int, sequence: int) -> FleetEntry:
    """A change of stage of one of many instances."""
    instance = f"chat-7d9f8b6c5d-{number:05d}"
    return FleetEntry(
        incarnation=f"{instance}.{number:016x}",
        instance=instance,
        version="1.2.3",
        sequence=sequence,
        previous=Stage.GRACE,
        current=Stage.READY,
        fact="TimerFired",
        cause="grace is served",
        at=1764162131.123,
        elapsed_seconds=0.507,
    )


def state_of(number: int, sequence: int) -> str:
    """What that instance says of itself."""
    entry = entry_of(number, sequence)
    return encode_state(FleetState(entry, "chat", 1764162129.0, 6.0, 2.0))


class Asked:
    """A Redis that knows many instances."""

    def __init__(self, client: "redis.Redis", instances: int) -> None:
        self._client = client
        self._sequence = 7
        self._append, self._beat = client.register_script(APPEND), client.register_script(BEAT)
        for number in range(instances):
            entry = entry_of(number, 7)
            client.hset(KEYS.instances, entry.incarnation, f"7 {state_of(number, 7)}")
            client.zadd(KEYS.leases, {entry.incarnation: time.time() + 3600})

    def ping(self) -> None:
        self._client.ping()

    def beat(self) -> None:
        keys = (KEYS.instances, KEYS.leases)
        self._beat(keys, (entry_of(0, 7).incarnation, 6, 600))

    def append(self) -> None:
        mark, self._sequence = self._sequence, self._sequence + 1
        entry = entry_of(1, self._sequence)
        state = state_of(1, self._sequence)
        words = (entry.incarnation, mark, self._sequence, state, 10_000, 2 * len(ENTRY_FIELDS))
        self._append((KEYS.instances, KEYS.events), (*words, *encode_entry(entry)))

    def cost(self, call: Callable[[], None], calls: int) -> Candidate:
        """The server's processor time for one call, in microseconds."""

        def measure() -> float:
            before = self._seconds()
            for _ in range(calls):
                call()
            return (self._seconds() - before) / calls * 1e6

        return measure

    def _seconds(self) -> float:
        used = self._client.info("cpu")
        return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def calls_of(calls: int, instances: int, changes: int, rounds: int) -> list[Row]:
    """The rows of the two scripts, and of those who read what they write."""
    with RedisServer() as server, redis.Redis(port=server.port) as client:
        asked = Asked(client, instances)
        figures = interleaved(
            {
                "a beat": asked.cost(asked.beat, calls),
                "an append": asked.cost(asked.append, calls),
                "PING": asked.cost(asked.ping, calls),
            },
            rounds=rounds,
        )
        reading = [
            snapshot_row(server.url, instances, rounds),
            change_row(server.url, asked.append, changes, rounds),
        ]
    beat, append, ping = figures.values()
    return [
        Row(
            part=PART,
            what=what,
            unit="us",
            ours=ours,
            floor=ping,
            verdicts=(at_most(ours, _MOST_TIMES, ping),),
        )
        for what, ours in (
            (f"Redis' processor time for a beat, {instances:,} instances", beat),
            ("Redis' processor time for a change of stage", append),
        )
    ] + reading


class Nothing(Observer):
    """Does nothing."""


def noted(facts: int, rounds: int) -> Row:
    """The row of the event loop."""
    fact = ProbeSucceeded(1.0, 0.001)
    nothing = Nothing()
    publisher = Published(settings_of_url("redis://localhost")).publisher
    figures = interleaved(
        {
            "noted for the thread": per_call(lambda: publisher.note(fact, None), facts),
            "an observer that does nothing": per_call(lambda: nothing.observed(fact, None), facts),
        },
        rounds=rounds,
    )
    ours, floor = figures.values()
    return Row(
        part=PART,
        what="one fact on the event loop",
        unit="us",
        ours=ours,
        floor=floor,
        verdicts=(at_most(ours, _OBSERVER_TIMES, floor),),
    )


def measure(
    calls: int = CALLS,
    instances: int = INSTANCES,
    facts: int = FACTS,
    changes: int = CHANGES,
    rounds: int = ROUNDS,
) -> list[Row]:
    """All rows."""
    return [*calls_of(calls, instances, changes, rounds), noted(facts, rounds)]
