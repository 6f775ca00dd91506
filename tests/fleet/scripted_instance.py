"""An instance whose changes and beats a test decides on, one by one, through the real scripts."""

import time
from collections.abc import Sequence
from dataclasses import replace

import redis

from orchestrator.fleet._encode import encode_entry, encode_state
from orchestrator.fleet._scripts import APPEND, BEAT
from orchestrator.fleet._wire import (
    ENTRY_FIELDS,
    MOST_ENTRIES,
    FleetEntry,
    FleetState,
    fleet_keys,
    new_incarnation,
)
from states import Stage

STAGES = (Stage.PROBING_REDIS, Stage.GRACE, Stage.READY, Stage.DEGRADED)


def entry_of(incarnation: str, sequence: int, version: str = "1") -> FleetEntry:
    """The change of this sequence: one goes round and round from `booting` on."""
    return FleetEntry(
        incarnation=incarnation,
        instance=incarnation.rpartition(".")[0],
        version=version,
        sequence=sequence,
        previous=STAGES[sequence % 4 - 2] if sequence > 1 else Stage.BOOTING,
        current=STAGES[sequence % 4 - 1],
        fact="TimerFired",
        cause="the test wants it",
        at=1764162131.0 + sequence,
        elapsed_seconds=1.0,
    )


class ScriptedInstance:
    """One incarnation.

    Args:
        port: The port of its Redis, on 127.0.0.1.
        name: What it is called.
        version: What it runs.
        service: Its service.
        lease_seconds: How long its lease is.
        most_kept: How many changes it can tell again.
    """

    def __init__(
        self,
        port: int,
        name: str = "one",
        *,
        version: str = "1",
        service: str = "chat",
        lease_seconds: float = 6.0,
        most_kept: int = 256,
    ) -> None:
        self.port = port
        self.incarnation = new_incarnation(name)
        self.sequence = 0
        self.lease_seconds = lease_seconds
        self._version = version
        self._service = service
        self._keys = fleet_keys(service)
        self._most_kept = most_kept
        self._sent = 0
        self._more: dict[str, object] = {}

    @property
    def state(self) -> FleetState:
        """What it says of itself."""
        entry = entry_of(self.incarnation, self.sequence, self._version)
        state = FleetState(entry, self._service, time.time() - 60, self.lease_seconds, 2.0)
        return replace(state, **self._more)  # type: ignore[arg-type]  # a test names the fields

    def change(self, times: int = 1) -> None:
        """Change the stage, without telling."""
        self.sequence += times

    def be(self, stage: Stage) -> "ScriptedInstance":
        """Change the stage, and tell, until it is this one."""
        self.change()
        while self.state.entry.current is not stage:
            self.change()
        self.beat()
        return self

    def say(self, **more: object) -> None:
        """Say something else of itself from now on."""
        self._more.update(more)

    def beat(self, lease_seconds: float | None = None) -> None:
        """Renew the lease, and tell what Redis does not know."""
        with redis.Redis(port=self.port, decode_responses=True, protocol=2) as client:
            lease = self.lease_seconds if lease_seconds is None else lease_seconds
            keys = (self._keys.instances, self._keys.leases)
            answer = self._eval(client, BEAT, keys, [self.incarnation, lease, 600])
            assert isinstance(answer, list)
            mark = int(answer[0])
            while mark != self.sequence:
                mark = self._tell(client, mark)
            state = encode_state(self.state)
            self._eval(client, BEAT, keys, [self.incarnation, lease, 600, mark, state])

    def leave(self) -> None:
        """Say goodbye."""
        self.say(left=True)
        self.beat(0.0)

    def _tell(self, client: "redis.Redis", mark: int) -> int:
        first = max(mark + 1, self.sequence - self._most_kept + 1)
        sequences = range(first, min(first + 64, self.sequence + 1))
        entries = [entry_of(self.incarnation, one, self._version) for one in sequences]
        words = [word for entry in entries for word in encode_entry(entry)]
        state = encode_state(replace(self.state, entry=entries[-1]))
        told = [mark, sequences[-1], state, MOST_ENTRIES, 2 * len(ENTRY_FIELDS), *words]
        keys = (self._keys.instances, self._keys.events)
        return int(str(self._eval(client, APPEND, keys, [self.incarnation, *told])))

    def _eval(
        self, client: "redis.Redis", script: str, keys: Sequence[str], arguments: Sequence[object]
    ) -> object:
        answer: object = client.eval(script, 2, *keys, *map(str, arguments))
        return answer
