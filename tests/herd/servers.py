"""Servers that come back, as a simulation knows them: what becomes of a connection, and when."""

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol


class Reply(Enum):
    """What becomes of a new connection."""

    ANSWER = auto()
    """It gets its answer."""

    FULL = auto()
    """It is told that there are too many clients: cheap for both sides."""

    DROPPED = auto()
    """The queue of those that wait to be accepted is full: nothing comes back at all."""


class Server(Protocol):
    """Something that many connect to. It must be asked in the order of time."""

    def connect(self, at: float) -> tuple[Reply, float]:
        """What becomes of a connection that is opened at this time, and when."""
        ...


@dataclass
class Queue:
    """Accepts connections in their order; each takes as long, also one that its client gave up.

    Attributes:
        per_second: How many it gives an answer to.
        backlog: How many may wait to be accepted; the next are dropped.
        free_at: When it is through with those that wait.
    """

    per_second: float
    backlog: float = math.inf
    free_at: float = 0.0

    def connect(self, at: float) -> tuple[Reply, float]:
        """Stand in the queue."""
        free_at = max(self.free_at, at)
        if (free_at - at) * self.per_second > self.backlog:
            return Reply.DROPPED, at
        self.free_at = free_at + 1 / self.per_second
        return Reply.ANSWER, self.free_at


@dataclass
class Crowded:
    """Has room for a few clients at a time, which leave once they have their answer.

    It is busy with others, and takes a turn for new clients every so often: all that have come
    until then, as many as there is room for; the others are told that there are too many.

    Attributes:
        turn_seconds: How long a turn lasts.
        room: How many it lets in each turn.
        backlog: How many may wait for a turn.
        turn: Which turn it is.
        came: How many have come in this turn.
    """

    turn_seconds: float
    room: int
    backlog: int = 511
    turn: int = -1
    came: int = 0

    def connect(self, at: float) -> tuple[Reply, float]:
        """Wait for the turn."""
        turn = int(at / self.turn_seconds)
        if turn != self.turn:
            self.turn, self.came = turn, 0
        if self.came >= self.backlog:
            return Reply.DROPPED, at
        self.came += 1
        over_at = (turn + 1) * self.turn_seconds
        return (Reply.ANSWER if self.came <= self.room else Reply.FULL), over_at


@dataclass
class Full:
    """Has room for fewer clients than there are, and they stay.

    Attributes:
        per_second: How many connections it can take and refuse.
        room: How many clients may stay.
        free_at: When it is through with those that wait.
        inside: How many clients stay.
    """

    per_second: float
    room: int
    free_at: float = 0.0
    inside: int = 0

    def connect(self, at: float) -> tuple[Reply, float]:
        """Stay, if there is room."""
        self.free_at = max(self.free_at, at) + 1 / self.per_second
        if self.inside >= self.room:
            return Reply.FULL, self.free_at
        self.inside += 1
        return Reply.ANSWER, self.free_at
