"""One attempt, and what has been done about it so far."""

from enum import Enum, auto

from states._records import mutable_record


class AttemptPhase(Enum):
    """What has been done about an attempt that does not come back."""

    RUNNING = auto()
    """Nothing yet."""
    EXTENDED = auto()
    """It got more time, since the event loop was late and the result may be there already: a
    blocked loop must not be mistaken for a dead server."""
    CANCELLED = auto()
    """It was cancelled."""
    GIVEN_UP = auto()
    """It did not react; a failure was posted in its place. Its own result will not count."""


@mutable_record
class Attempt:
    """One attempt.

    Attributes:
        judge_at: When something is to be done about it if it has not come back.
        late_seconds: By how much the event loop was late for it.
        phase: What has been done.
    """

    judge_at: float
    late_seconds: float
    phase: AttemptPhase = AttemptPhase.RUNNING
