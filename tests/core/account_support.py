"""The law of the account: its critical steps are exactly the time to ready."""

import itertools
from fractions import Fraction

from orchestrator import Account


def adds_up(account: Account) -> bool:
    """Whether the critical path is without a gap, and so is exactly the whole."""
    path = account.critical
    exact = sum(Fraction(s.ended_seconds) - Fraction(s.began_seconds or 0.0) for s in path)
    return (
        path[0].began_seconds == 0
        and path[-1].ended_seconds == account.seconds
        and all(a.ended_seconds == b.began_seconds for a, b in itertools.pairwise(path))
        and all(step.seconds >= 0 for step in account.steps)
        and exact == Fraction(account.seconds)
    )
