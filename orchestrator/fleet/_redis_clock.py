"""What an instance dates is dated by Redis' clock, which all instances and readers share. Pure.

Clocks of machines differ, by days where nothing sets them; `ready for 366 d` would be read off a
clock that is a year behind. Each beat brings Redis' time.
"""

import math
from dataclasses import replace

from orchestrator.fleet._wire import FleetEntry, FleetState

_TOLERANCE_SECONDS = 1.0
"""Clocks that are set agree better than this. Smaller differences come from the network, and what
is dated should not move with each beat."""


class RedisClock:
    """How far this machine's clock is from Redis'.

    Attributes:
        ahead_seconds: How far Redis' clock is ahead; 0 until it is known.
    """

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def compare(self, redis_now: bytes, asked_at: float, answered_at: float) -> None:
        """Take note of what Redis' clock said between two moments of ours, in Unix seconds."""
        try:
            ahead_seconds = float(redis_now) - (asked_at + answered_at) / 2
        except ValueError:
            return
        if not math.isfinite(ahead_seconds):
            return
        doubt_seconds = _TOLERANCE_SECONDS + abs(answered_at - asked_at)
        if abs(ahead_seconds - self.ahead_seconds) > doubt_seconds:
            near = abs(ahead_seconds) <= _TOLERANCE_SECONDS
            self.ahead_seconds = 0.0 if near else ahead_seconds

    def dated(self, entry: FleetEntry) -> FleetEntry:
        """The same change, dated by Redis' clock."""
        return replace(entry, at=self._dated(entry.at)) if self.ahead_seconds else entry

    def dated_state(self, state: FleetState) -> FleetState:
        """The same state, dated by Redis' clock."""
        if not self.ahead_seconds:
            return state
        stuck_since = state.stuck_since
        return replace(
            state,
            entry=self.dated(state.entry),
            started_at=self._dated(state.started_at),
            stuck_since=None if stuck_since is None else self._dated(stuck_since),
        )

    def _dated(self, at: float) -> float:
        return max(0.0, at + self.ahead_seconds)
