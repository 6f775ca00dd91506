"""The workers that a supervisor has just started to replace all that it had.

gunicorn's SIGHUP starts as many new workers as there are, and in the same moment sends SIGTERM to
the old ones. These can go on serving until the new ones are ready, if they know of them; only the
supervisor's children show that. At the end of the service there are no such children.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.lowlevel

from orchestrator._core.orchestrator import Orchestrator
from orchestrator.pod._standing import PodStanding

_PROC = Path("/proc")
_LOOK_SECONDS = 0.05
_YOUNG_SECONDS = 10.0
"""How long ago a child may have been started to be one of them."""

_PARENT, _START_TIME = 1, 19
"""Their places among the fields after the name in /proc/PID/stat; see proc(5)."""


def successors(parent: int, standing: PodStanding) -> frozenset[int]:
    """Their process ids; empty if there are too few, and without /proc.

    They are the youngest children, as many as there should be workers, each younger than this one.
    Whether they are ready by now does not matter: a quick start may be over by the time of our end.

    Args:
        parent: The supervisor.
        standing: How the workers stand.
    """
    started_at = dict(_young_children(parent))
    own_start = _birth_of(os.getpid()).start
    younger = [pid for pid, start in started_at.items() if start > own_start]
    if len(younger) < standing.expected:
        return frozenset()
    youngest_first = sorted(younger, key=started_at.__getitem__, reverse=True)
    return frozenset(youngest_first[: standing.expected])


class Handover:
    """How a worker takes part in its drain: it serves on until those that follow are ready.

    Args:
        startup: The orchestrator of the worker.
        report: Says how the worker stands; the others learn it at once.
        look: How all stand now.
        find: The successors; empty if there are none.

    Attributes:
        serves_on: Whether it does so now, and counts as ready for all together.
    """

    def __init__(
        self,
        startup: Orchestrator,
        report: Callable[[], None],
        look: Callable[[], PodStanding],
        find: Callable[[], frozenset[int]],
    ) -> None:
        self._startup = startup
        self._report, self._look, self._find = report, look, find
        self.serves_on = False

    async def drain_announced(self) -> None:
        """This worker is not ready any more, once its successors are, if there are any.

        They are waited for as long as there is time to close what is open after that.
        """
        if found := self._find():
            startup, self.serves_on = self._startup, True
            self._report()
            seconds = startup.drain_seconds_left() - startup.policy.drain_close_seconds
            with anyio.move_on_after(max(0.0, seconds)):
                await until_ready(found, self._look)
            self.serves_on = False
        self._report()
        await anyio.lowlevel.checkpoint()

    async def wind_down(self, close_seconds: float) -> None:
        """Nothing waits for it."""
        await anyio.lowlevel.checkpoint()

    @property
    def inside(self) -> int:
        """It has no requests of its own."""
        return 0

    @property
    def awaits(self) -> bool:
        """Whether new workers are to take the place of all."""
        return bool(self._find())


async def until_ready(pids: frozenset[int], look: Callable[[], PodStanding]) -> None:
    """Wait until as many of them are ready as there should be, or one of them ends.

    Args:
        pids: The workers that take the place of all.
        look: How all stand now.
    """
    while not (standing := look()).are_ready(pids):
        ends = {report.pid for report, _ in standing.workers.values() if report.draining}
        if ends & pids or not all((_PROC / str(pid)).exists() for pid in pids):
            return  # the service ends, or they cannot be started
        await anyio.sleep(_LOOK_SECONDS)


def _young_children(parent: int) -> Iterator[tuple[int, int]]:
    """The process id and the start time, in ticks, of each child that was started just now."""
    with contextlib.suppress(OSError, ValueError):
        uptime = float((_PROC / "uptime").read_text(encoding="ascii").split()[0])
        oldest = (uptime - _YOUNG_SECONDS) * os.sysconf("SC_CLK_TCK")
        for entry in os.scandir(_PROC):
            if entry.name.isdecimal():
                birth = _birth_of(int(entry.name))
                if birth.parent == parent and birth.start >= oldest:
                    yield int(entry.name), birth.start


class _Birth(NamedTuple):
    """By whom a process was started, and when, in ticks since the system's start."""

    parent: int = 0
    start: int = 0


def _birth_of(pid: int) -> _Birth:
    with contextlib.suppress(OSError):  # it has ended
        stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
        fields = stat.rpartition(")")[2].split()
        return _Birth(int(fields[_PARENT]), int(fields[_START_TIME]))
    return _Birth()
