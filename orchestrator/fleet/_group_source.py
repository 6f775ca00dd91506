"""Reading as a member of a group: Redis gives each change to one member only.

What a member was given stays with it until it says that it is done with it. If the member goes
away, another one takes it over after a minute. So each change is given out at least once.
"""

import contextlib
import time
from collections import deque
from collections.abc import Sequence

from orchestrator.fleet._fleet_source import StreamEntry
from orchestrator.fleet._reader_link import ReaderLink, RefusedReply
from orchestrator.fleet._redis_source import (
    MOST_ENTRIES_AT_ONCE,
    RedisSource,
    entries_of,
    entries_of_streams,
    second_of,
)
from orchestrator.fleet._wire import FleetKeys, Unreadable

_ABANDONED_SECONDS = 60.0
"""What a member has not finished for so long is given to another one."""

_LOOK_SECONDS = 10.0
"""How often to look for what others have abandoned."""


class Membership:
    """One member of a group, over all its connections.

    Args:
        group: The group.
        member: The name of the member, which no other has.

    Attributes:
        unfinished: The entries that this process was given, and has not finished.
    """

    def __init__(self, group: str, member: str) -> None:
        self.group = group
        self.member = member
        self.unfinished: set[str] = set()
        self.known = False
        self._finished: deque[str] = deque()

    def finish(self, place: str) -> None:
        """This entry is dealt with. From any thread."""
        self._finished.append(place)

    def take_finished(self) -> list[str]:
        """The entries that Redis should hear of."""
        finished = []
        with contextlib.suppress(IndexError):
            while True:
                finished.append(self._finished.popleft())
        return finished


class GroupSource(RedisSource):
    """Asks one Redis for one service, as a member of a group.

    Args:
        link: The connection.
        keys: The keys of the service.
        membership: The member.
    """

    def __init__(self, link: ReaderLink, keys: FleetKeys, membership: Membership) -> None:
        super().__init__(link, keys)
        self._membership = membership
        self._fresh = True
        self._look_at = 0.0

    def entries_after(self, place: str, block_seconds: float) -> Sequence[StreamEntry]:
        """Entries that no other member has, wherever they are; waits for the first for so long."""
        self.acknowledge()
        try:
            entries = self._entries(block_seconds)
        except RefusedReply as error:
            # UNBLOCKED says that the stream was deleted while the member waited for it.
            if not error.text.startswith(("NOGROUP", "UNBLOCKED")):
                raise
            self._create()
            return []
        unreadable = [one.id for one in entries if isinstance(one.entry, Unreadable)]
        self._membership.unfinished.update(one.id for one in entries)
        for one in unreadable:
            self._membership.finish(one)
        return entries

    def acknowledge(self) -> None:
        """Tell Redis what is finished."""
        membership = self._membership
        if finished := membership.take_finished():
            try:
                self.link.ask_one("XACK", self.keys.events, membership.group, *finished)
            except BaseException:
                for one in finished:
                    membership.finish(one)
                raise
            membership.unfinished.difference_update(finished)

    def leave(self) -> None:
        """Leave the group if nothing is unfinished; else its rest would be lost with it."""
        self.acknowledge()
        membership = self._membership
        if not membership.unfinished:
            words = ("DELCONSUMER", self.keys.events, membership.group, membership.member)
            self.link.ask_one("XGROUP", *words)

    def _entries(self, block_seconds: float) -> list[StreamEntry]:
        if self._fresh:  # what a broken reply held is still this member's
            own = [
                one
                for one in self._read("0", 0.0, again=True)
                if one.id not in self._membership.unfinished
            ]
            self._fresh = False
            self._membership.known = True
            if own:
                return own
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_SECONDS
            if abandoned := self._claim():
                return abandoned
        return self._read(">", block_seconds)

    def _read(self, place: str, block_seconds: float, *, again: bool = False) -> list[StreamEntry]:
        membership = self._membership
        block = ("BLOCK", max(1, int(block_seconds * 1000))) if block_seconds > 0 else ()
        command = ("XREADGROUP", "GROUP", membership.group, membership.member)
        options = ("COUNT", MOST_ENTRIES_AT_ONCE, *block)
        reply = self.link.ask_one(*command, *options, "STREAMS", self.keys.events, place)
        return entries_of_streams(reply, again=again)

    def _claim(self) -> list[StreamEntry]:
        membership = self._membership
        command = ("XAUTOCLAIM", self.keys.events, membership.group, membership.member)
        idle = int(_ABANDONED_SECONDS * 1000)
        reply = self.link.ask_one(*command, idle, "0-0", "COUNT", MOST_ENTRIES_AT_ONCE)
        claimed = entries_of(second_of(reply), again=True)
        return [one for one in claimed if one.id not in membership.unfinished]

    def _create(self) -> None:
        """Make the group: for what comes from now on; but if it was lost, for all there is."""
        membership = self._membership
        place = "0" if membership.known else "$"
        membership.known = True
        words = ("CREATE", self.keys.events, membership.group, place, "MKSTREAM")
        try:
            self.link.ask_one("XGROUP", *words)
        except RefusedReply as error:
            if not error.text.startswith("BUSYGROUP"):  # else another member was quicker
                raise
