"""Which condition comes after which."""

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from orchestrator._errors import ConditionOrderError
from orchestrator._hardening.arguments import require, require_items
from orchestrator._hardening.text import one_line

PROBE = "redis"
"""The name of the orchestrator's own probe in `after`, whatever it asks."""

_WRITE = "write after=['redis', 'database']"


def names_of(given: Iterable[str]) -> tuple[str, ...]:
    """The names that a condition comes after.

    Raises:
        TypeError: When it is no collection of names, as when it is a single one.
    """
    items = require_items(given, "after", "a list of names", _WRITE)
    return tuple(one_line(require(item, str, "a name", _WRITE).strip()) for item in items)


class Branch(NamedTuple):
    """One line of the order as a tree.

    Attributes:
        name: A name.
        depth: How many stand above it; 0 at the left edge.
        also: What else it comes after that does not stand above it.
    """

    name: str
    depth: int
    also: tuple[str, ...] = ()


def as_tree(after: Mapping[str, Sequence[str]], declared: Iterable[str]) -> list[Branch]:
    """The order as a tree: each name below the last of those that it comes after.

    The probe is a line of its own where something comes after it. Names that cannot be placed,
    because the order came from elsewhere and has a circle or unknown names, stand at the left edge.
    """
    names = list(dict.fromkeys(declared))
    if any(PROBE in its for its in after.values()):
        names = [PROBE, *(name for name in names if name != PROBE)]
    known = {name: [one for one in after.get(name, ()) if one in names] for name in names}
    try:
        ranked = {name: rank for rank, name in enumerate(TopologicalSorter(known).static_order())}
    except CycleError:
        return [Branch(name, 0) for name in names]
    depths: dict[str, int] = {}
    for name in ranked:
        depths[name] = 1 + max((depths[one] for one in known[name]), default=-1)
    children: dict[str | None, list[str]] = {}
    for name in names:
        parent = max(known[name], key=lambda one: (depths[one], ranked[one]), default=None)
        children.setdefault(parent, []).append(name)
    branches: list[Branch] = []
    waiting: list[tuple[str, tuple[str, ...]]] = [(one, ()) for one in children.get(None, ())]
    waiting.reverse()
    while waiting:
        name, above = waiting.pop()
        also = tuple(one for one in known[name] if one not in above)
        branches.append(Branch(name, len(above), also))
        waiting += [(one, (*above, name)) for one in reversed(children.get(name, ()))]
    return branches


def in_order(after: Mapping[str, Sequence[str]], declared: Iterable[str]) -> tuple[str, ...]:
    """The names of `after`, each behind all that it comes after.

    Args:
        after: For each condition that keeps itself, the names that it comes after.
        declared: All names that there are, besides that of the probe.

    Raises:
        ConditionOrderError: When a name is unknown, or conditions wait for each other in a circle.
    """
    known = {PROBE, *declared}
    for name, its in after.items():
        for other in its:
            if other not in known:
                raise ConditionOrderError(
                    f"condition {name!r} comes after {other!r}, which was never declared; declared:"
                    f" {', '.join(map(repr, sorted(known)))}"
                )
    try:
        ordered = TopologicalSorter(after).static_order()
        return tuple(name for name in ordered if name in after)
    except CycleError as error:
        # The sorter names each one with the one behind it.
        circle = " after ".join(repr(name) for name in reversed(error.args[1]))
        raise ConditionOrderError(
            f"conditions wait for each other in a circle: {circle}; leave one of them out"
        ) from None
