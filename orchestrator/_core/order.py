"""Which condition comes after which."""

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from orchestrator._errors import ConditionOrderError
from orchestrator._hardening.arguments import require, require_items
from orchestrator._hardening.text import one_line

PROBE = "redis"
"""What the probe of the orchestrator itself is called in `after`, whatever it asks."""

_WRITE = "write after=['redis', 'database']"


def names_of(given: Iterable[str]) -> tuple[str, ...]:
    """The names that a condition comes after.

    Raises:
        TypeError: When it is no collection of names, as when it is a single one.
    """
    items = require_items(given, "after", "a list of names", _WRITE)
    return tuple(one_line(require(item, str, "a name", _WRITE).strip()) for item in items)


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
