"""What a fleet keeps in Redis: names of keys, and how states and changes of stage are written.

Pure. Publisher and reader share it. Version 1:

- `{orchestrator:SERVICE}:events`, a stream: an entry for each change of stage, with the fields of
  `ENTRY_FIELDS` in this order.
- `{orchestrator:SERVICE}:instances`, a hash: incarnation -> `<mark> <state as JSON>`. The mark is
  the sequence of the last change of this incarnation that Redis knows.
- `{orchestrator:SERVICE}:leases`, a sorted set: incarnation -> until when it counts as alive, in
  Redis' own seconds. A lease that ended is looked up in the hash: the state says `left` of an
  instance that has said goodbye, whose lease ends at that moment. One that is stuck still beats,
  and sets the end of its lease to now each time: it is stuck if `stuck_since` is there and the
  lease ended less than its length ago. All others are silent.
- `orchestrator:services`, a sorted set: service -> when it was last seen, in Unix seconds.

All keys of a service share one hash tag, and so lie in one slot of a cluster.

An incarnation is one start-up of one orchestrator: process ids and host names come again. Whoever
may write to the keys can write anything, so each field is checked for its type, its length and its
characters before it is used. What does not pass is `Unreadable`. Fields that are not known are
ignored; the version grows only when an old reader would be wrong.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from orchestrator._hardening.text import one_line
from states import Failure, Stage

VERSION = 1

ENTRY_FIELDS = (
    "v",
    "incarnation",
    "instance",
    "version",
    "sequence",
    "previous",
    "current",
    "fact",
    "cause",
    "at",
    "elapsed",
)
"""The fields of an entry of the stream. Redis stores names once if they come in the same order."""

MOST_ENTRIES = 10_000
"""About so many changes stay in the stream of a service."""

SERVICES_KEY = "orchestrator:services"

MOST_NAME_BYTES = 128
MOST_WORDS = 200
MOST_WAITS = 16
MOST_CONDITIONS = 64
MOST_STEPS = 16

_SERVICE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class FleetKeys(NamedTuple):
    """The keys of one service."""

    events: str
    instances: str
    leases: str


def fleet_keys(service: str) -> FleetKeys:
    """The keys of a service.

    Raises:
        ValueError: When the name is not 1 to 64 of the characters `A-Z a-z 0-9 . _ -`.
    """
    if not is_service_name(service):
        raise ValueError("the service's name must be 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    tag = f"{{orchestrator:{service}}}:"
    return FleetKeys(tag + "events", tag + "instances", tag + "leases")


def is_service_name(name: str) -> bool:
    """Whether a service can be called this."""
    return _SERVICE.fullmatch(name) is not None


def new_incarnation(instance: str) -> str:
    """A name for one start-up of an instance, which no other start-up has."""
    return f"{shorten(instance, MOST_NAME_BYTES)}.{os.urandom(8).hex()}"


def shorten(text: str, most_bytes: int) -> str:
    """One printable line of at most so many bytes of UTF-8."""
    line = one_line(text, most_bytes)
    return line.encode()[:most_bytes].decode(errors="ignore")


class Unreadable(NamedTuple):
    """What is not of this version, or was forged.

    Attributes:
        why: In our own words; nothing of what was read is in it.
    """

    why: str


@dataclass(frozen=True, slots=True)
class FleetEntry:
    """A change of stage of one instance.

    Attributes:
        incarnation: The start-up that it belongs to.
        instance: What the instance is called.
        version: What the instance runs.
        sequence: 1 for the first change of the start-up, then one more each time.
        previous: The stage that was left.
        current: The stage that was entered.
        fact: The kind of fact that caused it, such as `ProbeFailed`.
        cause: Why, in words.
        at: When, in Unix seconds of the instance's clock.
        elapsed_seconds: How long the instance was in `previous`.
    """

    incarnation: str
    instance: str
    version: str
    sequence: int
    previous: Stage
    current: Stage
    fact: str
    cause: str
    at: float
    elapsed_seconds: float


@dataclass(frozen=True, slots=True)
class FleetCondition:
    """A condition of one instance.

    Attributes:
        satisfied: Whether it holds.
        required: Whether ready needs it.
        reason: The last reason given, such as what it waits for.
    """

    satisfied: bool = True
    required: bool = True
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FleetState:
    """All that an instance says of itself.

    Attributes:
        entry: Its last change of stage.
        service: The service.
        started_at: When its process started, in Unix seconds of its clock.
        lease_seconds: How long its lease is.
        beat_seconds: How often it renews it.
        waits_for: What is missing before ready, in words.
        attempts: How many attempts its probe has made.
        failures_in_row: How many of the last ones failed.
        failure: Why the last one failed; `None` while the last one succeeded.
        conditions: Its conditions by name; not all of them if there is no room.
        stuck_since: Since when its event loop does nothing, in Unix seconds; `None` while it runs.
        left: Whether it has said goodbye.
        untold: How many changes there were since, which Redis was not told yet.
        held_back: Why not, such as that Redis is full; empty if it just takes its time.
        draining: Whether it ends its work.
        startup_seconds: How long the start took up to ready, or so far; `None` if not known.
        steps: How long each step of the start took, the longest first, in seconds.
    """

    entry: FleetEntry
    service: str
    started_at: float
    lease_seconds: float
    beat_seconds: float
    waits_for: Sequence[str] = ()
    attempts: int = 0
    failures_in_row: int = 0
    failure: Failure | None = None
    conditions: Mapping[str, FleetCondition] = field(default_factory=dict)
    stuck_since: float | None = None
    left: bool = False
    untold: int = 0
    held_back: str = ""
    draining: bool = False
    startup_seconds: float | None = None
    steps: Mapping[str, float] = field(default_factory=dict)
