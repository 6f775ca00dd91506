"""How long a handler may keep its slot without a sign, learned path by path.

Most handlers say when a unit of work ends: they receive again, or return. Others never do, such as
those that only push. A crowd of a thousand of them would take minutes if each kept its slot for the
6 s that real work may take in silence. So the turnstile learns, for each path by itself:

- Once as many handlers as there are slots have used up their time, the next ones get half of it.
- When a handler gives a sign, the next ones get at least twice the time that it took.

What is learned on one path affects no other, and nothing is cut at once: among the first handlers
of a path, those that really work give a sign before patience runs out.
"""

import re

SILENT_TICKS = 120
"""6 s: how long a handler may work before it sends anything. Longer than most work, and short
enough for those behind it: most clients give up on a handshake after 10 s."""

ANSWERING_TICKS = 10
"""0.5 s: how long it may go on after it has sent something."""

LEAST_TICKS = 2
"""0.1 s: neither gets shorter than this."""

_MOST_PATHS = 64
_VARIABLE = re.compile(r"[^/]*\d[^/]*")


class Limit:
    """A time limit in ticks: it shrinks while no handler keeps it, and grows when one does.

    Args:
        most: What it begins with, and never exceeds.
    """

    __slots__ = ("_longest", "_outlived", "most", "ticks")

    def __init__(self, most: int) -> None:
        self.most: int = most
        self.ticks: int = most
        self._longest = 0
        self._outlived = 0

    def outlived(self, slots: int) -> None:
        """A handler gave no sign in time; once `slots` of them have not, halve the limit."""
        self._outlived += 1
        if self._outlived >= slots:
            self._outlived = 0
            self.ticks = max(LEAST_TICKS, 2 * self._longest, self.ticks // 2)
            self.ticks = min(self.ticks, self.most)

    def learn(self, ticks: int) -> None:
        """A handler gave a sign after so many ticks."""
        self._longest = max(self._longest, ticks)
        self.ticks = min(self.most, max(self.ticks, 2 * ticks))


class Patience:
    """The two limits of one path: before a handler has sent anything, and after."""

    __slots__ = ("answering", "silent")

    def __init__(self) -> None:
        self.silent: Limit = Limit(SILENT_TICKS)
        self.answering: Limit = Limit(ANSWERING_TICKS)


class PatienceByPath:
    """What was learned so far. Paths that differ only in numbers count as one."""

    def __init__(self) -> None:
        self._by_path: dict[str, Patience] = {}

    def of(self, path: str) -> Patience:
        """The patience with handlers of this path."""
        path = _VARIABLE.sub("*", path)
        if path not in self._by_path and len(self._by_path) >= _MOST_PATHS:
            path = ""  # shared by all further ones
        return self._by_path.setdefault(path, Patience())
