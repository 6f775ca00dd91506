"""Where a start went, up to the first ready: data and words. `account_book` keeps it."""

from enum import StrEnum

from states._records import record

_MOST_BESIDE = 8
"""How many steps that ran beside are named in the line; the rest are counted."""


class StepKind(StrEnum):
    """What a step of a start was spent on. The values are stable: they appear in JSON."""

    START = "start"
    """Imports and set-up of the process, until the orchestrator is entered."""

    PROBE = "probe"
    """Waiting for the orchestrator's own probe to be answered."""

    CONDITION = "condition"
    """Waiting for a condition to hold, from when it could begin."""

    GRACE = "grace"
    """The time for which everything must hold without a break."""


@record
class AccountStep:
    """One step of a start. Times are seconds since the start of the account.

    Attributes:
        name: `imports`, what the probe asks, a condition's name, or `grace`. The first step of a
            process that was not just started is called `before entering`.
        kind: What it was spent on.
        began_seconds: When it could begin, as all that it comes after held; `None` if it never did.
        ended_seconds: When it was done; the end of the account if it is not.
        critical: Whether it lies on the critical path, which adds up to the time to ready.
        done: Whether it is done: it held at the end of the account, or it is over.
        required: Whether ready needs it.
        after: The names that it comes after.
    """

    name: str
    kind: StepKind
    began_seconds: float | None
    ended_seconds: float
    critical: bool
    done: bool = True
    required: bool = True
    after: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it took; 0 if it never began."""
        return 0.0 if self.began_seconds is None else self.ended_seconds - self.began_seconds


@record
class Account:
    """Where a start went, up to the first ready, or so far. `str()` gives it as one line.

    Attributes:
        ready: Whether the service has become ready, and the account is final.
        seconds: The time from the start of the process to ready, or so far. A start-up that is not
            the first of its process begins when it is entered.
        steps: The critical path in order, then what ran beside it. Each step of the path begins
            where the one before it ends; the first begins at 0, the last ends at `seconds`.
        last_to_hold: What held last of all that ready needs; empty while nothing holds.
    """

    ready: bool
    seconds: float
    steps: tuple[AccountStep, ...]
    last_to_hold: str = ""

    @property
    def critical(self) -> tuple[AccountStep, ...]:
        """The steps that add up to `seconds`."""
        return tuple(step for step in self.steps if step.critical)

    @property
    def beside(self) -> tuple[AccountStep, ...]:
        """What ran beside them, and delayed nothing."""
        return tuple(step for step in self.steps if not step.critical)

    def __str__(self) -> str:
        digits = 1 if self.seconds >= 1 else 3
        total = f"{round(self.seconds, digits):.{digits}f} s"
        if not self.steps:
            return f"not ready after {total}"
        parts: list[str] = []
        for step in self.critical:
            # Both ends are rounded, not the difference: so what is shown adds up, too.
            began = round(step.began_seconds or 0.0, digits)
            seconds = round(step.ended_seconds, digits) - began
            parts.append(f"{step.name} {abs(seconds):.{digits}f} s{self._marks(step)}")
        text = f"{'ready' if self.ready else 'not ready'} after {total}: {', '.join(parts)}"
        beside = self.beside
        if not beside:
            return text
        names = [self._beside_in_words(step, digits) for step in beside[:_MOST_BESIDE]]
        more = len(beside) - len(names)
        return f"{text}; beside: {', '.join(names)}" + (f" and {more} more" if more else "")

    def _beside_in_words(self, step: AccountStep, digits: int) -> str:
        if step.began_seconds is None:
            return f"{step.name} not begun (after {', '.join(step.after)})"
        if self.ready and not step.done:
            return f"{step.name} does not hold yet (optional)"
        return f"{step.name} {step.seconds:.{digits}f} s{self._marks(step)}"

    def _marks(self, step: AccountStep) -> str:
        notes = self.notes_of(step)
        return f" ({', '.join(notes)})" if notes else ""

    def notes_of(self, step: AccountStep) -> list[str]:
        """Notes on a step, besides its time."""
        notes = []
        holds = step.kind in (StepKind.PROBE, StepKind.CONDITION)
        if self.ready and holds and step.name == self.last_to_hold:
            notes.append("last to hold")
        if step.began_seconds is None:
            notes.append("not begun")
        elif not step.done:
            notes.append("does not hold yet" if self.ready else "so far")
        if not step.required:
            notes.append("optional")
        return notes

    def as_json(self) -> dict[str, object]:
        """The same for JSON, with times rounded to a microsecond."""
        return {
            "ready": self.ready,
            "seconds": round(self.seconds, 6),
            "last_to_hold": self.last_to_hold,
            "steps": [
                {
                    "name": step.name,
                    "kind": step.kind.value,
                    "began_seconds": _rounded(step.began_seconds),
                    "ended_seconds": round(step.ended_seconds, 6),
                    "critical": step.critical,
                    "done": step.done,
                    "required": step.required,
                    "after": list(step.after),
                }
                for step in self.steps
            ],
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


NOTHING_YET = Account(ready=False, seconds=0.0, steps=())
"""The account of an orchestrator that was never entered."""
