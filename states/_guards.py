"""The guards of the table, as functions that only read.

Counting is done before, so a guard sees the fact already included.
"""

from collections.abc import Callable

from states._counters import Counters
from states._facts import Fact, FailureKind, ProbeFailed
from states._table import Guard


def always(_counters: Counters, _fact: Fact) -> bool:
    """No guard."""
    return True


def permanent(_counters: Counters, fact: Fact) -> bool:
    """The failure is permanent."""
    return isinstance(fact, ProbeFailed) and fact.failure.kind is FailureKind.PERMANENT


def budget_spent(counters: Counters, fact: Fact) -> bool:
    """The start-up budget is spent."""
    return counters.budget_ends_at is not None and fact.at >= counters.budget_ends_at


def proved(counters: Counters, _fact: Fact) -> bool:
    """Grace is served and every required condition holds."""
    return not counters.unmet and not counters.grace_left_seconds


def budget_spent_unmet(counters: Counters, fact: Fact) -> bool:
    """The budget is spent and a required condition does not hold."""
    return bool(counters.unmet) and budget_spent(counters, fact)


def startup_goes_on(counters: Counters, fact: Fact) -> bool:
    """Still in start-up, the failure is transient and budget is left."""
    return (
        counters.in_startup and not permanent(counters, fact) and not budget_spent(counters, fact)
    )


def failures_confirmed(counters: Counters, _fact: Fact) -> bool:
    """The failures in a row reach the policy's number."""
    return counters.failures_in_row >= counters.policy.failures_to_degrade


def required_lost(counters: Counters, _fact: Fact) -> bool:
    """A required condition does not hold."""
    return bool(counters.unmet)


def required_lost_later(counters: Counters, _fact: Fact) -> bool:
    """A required condition does not hold, start-up being over."""
    return bool(counters.unmet) and not counters.in_startup


def recoverable(counters: Counters, _fact: Fact) -> bool:
    """Redis answers and every required condition holds."""
    return counters.probe_answers and not counters.unmet


HOLDS: dict[Guard, Callable[[Counters, Fact], bool]] = {
    Guard.ALWAYS: always,
    Guard.PERMANENT: permanent,
    Guard.BUDGET_SPENT: budget_spent,
    Guard.PROVED: proved,
    Guard.BUDGET_SPENT_UNMET: budget_spent_unmet,
    Guard.STARTUP_GOES_ON: startup_goes_on,
    Guard.FAILURES_CONFIRMED: failures_confirmed,
    Guard.REQUIRED_LOST: required_lost,
    Guard.REQUIRED_LOST_LATER: required_lost_later,
    Guard.RECOVERABLE: recoverable,
}
"""What decides whether each guard holds."""
