"""Logs what falls and comes back without changing the stage.

A change of stage has a line of its own (`transition_log.py`), which names its cause. Here is the
rest: an optional condition, a second one that falls in an outage, and the probe that fails while a
condition is missing already. So the log shows everything that fell.
"""

from orchestrator._hardening.log_thread import logger
from orchestrator._ports import Observer, StartupContext
from states import (
    ConditionChanged,
    DrainBegan,
    Fact,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
)

_MOST_LINES = 6
_WINDOW_SECONDS = 60.0
"""A condition that changes more often within a minute gets one summary a minute from then on."""


class _LineLimit:
    """The lines of one condition."""

    __slots__ = ("ends_at", "kept_back", "lines")

    def __init__(self) -> None:
        self.lines = 0
        self.kept_back = 0
        self.ends_at = 0.0

    def allows(self, at: float) -> bool:
        """Whether a change may be logged now; if not, it is counted."""
        if at >= self.ends_at and not self.kept_back:
            self.lines, self.ends_at = 0, at + _WINDOW_SECONDS
        if self.lines < _MOST_LINES:
            self.lines += 1
            return True
        self.kept_back += 1
        return False

    def is_due(self, at: float) -> bool:
        """Whether it is time to sum up the changes that were held back."""
        return bool(self.kept_back) and at >= self.ends_at

    def sum_up(self, at: float) -> int:
        """Return how many changes were held back, and hold back those of the next minute."""
        count, self.kept_back, self.ends_at = self.kept_back, 0, at + _WINDOW_SECONDS
        return count


class ConditionLog(Observer):
    """Logs a fall as a warning, and a return as information."""

    def started(self, context: StartupContext) -> None:
        """Forget an earlier start-up."""
        self._enabled = context.enabled
        self._probe = context.target.name
        self._stage = Stage.BOOTING
        self._said_failing = False
        self._held: dict[str, ConditionChanged] = {}  # of those that held once: how it is now
        self._limits: dict[str, _LineLimit] = {}

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Log what the fact says, unless the line for a change of stage says it."""
        if isinstance(fact, DrainBegan):
            self._enabled = False  # what falls from now on falls because the service ends
        if not self._enabled:
            return
        if changed is not None:
            self._stage = changed.current
        if isinstance(fact, ConditionChanged):
            self._see_condition(fact, logged=changed is not None)
        elif isinstance(fact, ProbeFailed | ProbeSucceeded):
            self._see_attempt(fact, logged=changed is not None)
        for name, limit in self._limits.items():
            if limit.is_due(fact.at):
                self._sum_up(name, limit, fact.at)

    def _see_condition(self, fact: ConditionChanged, *, logged: bool) -> None:
        before = self._held.get(fact.name)
        if before is None:
            if fact.satisfied:
                self._held[fact.name] = fact
                if not logged:
                    logger.debug("condition %s holds", fact.name)
            return
        self._held[fact.name] = fact
        if before.satisfied == fact.satisfied or logged:
            return
        if not self._limits.setdefault(fact.name, _LineLimit()).allows(fact.at):
            return
        if fact.satisfied:
            logger.info("condition %s holds again", fact.name)
        else:
            logger.warning("condition %s is lost%s", fact.name, _because(fact.reason))

    def _sum_up(self, name: str, limit: _LineLimit, at: float) -> None:
        count, now = limit.sum_up(at), self._held[name]
        how = "holds now" if now.satisfied else f"does not hold now{_because(now.reason)}"
        logger.warning("condition %s keeps changing: %d more times, and %s", name, count, how)

    def _see_attempt(self, fact: ProbeFailed | ProbeSucceeded, *, logged: bool) -> None:
        if isinstance(fact, ProbeSucceeded):
            if self._said_failing and not logged:
                logger.info("%s answers again", self._probe)
            self._said_failing = False
        elif logged:
            self._said_failing = True
        elif not self._said_failing and self._stage is not Stage.READY:
            self._said_failing = True
            # While ready, a single failure says little; the line for the fall says the rest.
            starting = self._stage is Stage.PROBING_REDIS
            log = logger.info if starting else logger.warning
            yet = " yet" if starting else ""
            log("%s does not answer%s: %s", self._probe, yet, fact.failure.reason)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
