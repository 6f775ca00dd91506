"""Where a start went: facts in, an account out. No clock, no I/O, and no state of the machine.

How it works. Redis, each condition and the grace are *tracks*. A track opens when all that it comes
after holds. Its opening remembers which of these held last, and the opening of that one in turn, so
it is the end of a chain that reaches back to the start of the process. Chains never change.

The chain behind what ready needed last is the critical path. Each of its steps ends at the clock
reading at which the next begins, so they always add up to the time to ready. All other tracks ran
beside it.
"""

from typing import NamedTuple

from orchestrator._core.account import NOTHING_YET, Account, AccountStep, StepKind
from orchestrator._core.order import PROBE
from orchestrator._ports import Observer, StartupContext
from states import (
    BootFinished,
    ConditionChanged,
    Fact,
    ProbeFailed,
    ProbeSucceeded,
    Stage,
    StageChanged,
)


class _Opening(NamedTuple):
    """When a track opened; `by` names the step that ended then, and `before` is its opening."""

    at: float
    by: "_Track | None" = None
    before: "_Opening | None" = None


class _Track:
    """Something that a start waits for."""

    __slots__ = (
        "after",
        "held_at",
        "holds",
        "kind",
        "name",
        "needs",
        "opening",
        "opens",
        "required",
    )

    def __init__(
        self, name: str, kind: StepKind, *, required: bool = True, after: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.kind = kind
        self.required = required
        self.after = after
        self.needs: list[_Track] = []
        self.opens: list[_Track] = []
        self.opening: _Opening | None = None
        self.holds = False
        self.held_at = 0.0

    def unmet(self) -> "_Track":
        """This track, or the first of those that it still waits for."""
        for need in self.needs:
            if not need.holds:
                return need.unmet()
        return self


class AccountBook(Observer):
    """Keeps the account of one start-up after the other, from facts alone."""

    def __init__(self) -> None:
        self._final: Account | None = NOTHING_YET

    def started(self, context: StartupContext) -> None:
        """Begin a new account."""
        self._began_at = context.started_at
        self._grace_seconds = context.policy.grace_seconds
        target = context.target
        self._start = _Track("imports" if context.imports else "before entering", StepKind.START)
        self._probe = _Track(
            PROBE if target.system == PROBE else target.system or "probe", StepKind.PROBE
        )
        self._grace = _Track("grace", StepKind.GRACE)
        after = context.after
        self._conditions = {
            name: _Track(
                name, StepKind.CONDITION, required=required, after=tuple(after.get(name, ()))
            )
            for name, required in (context.conditions if context.enabled else {}).items()
        }
        for track in self._conditions.values():
            track.needs = [self._named(name) for name in track.after]
            for need in track.needs:
                need.opens.append(track)
        self._entry = _Opening(context.started_at)
        self._last_to_hold = ""
        self._booted = False
        self._stopped_at: float | None = None
        self._final = None

    def _named(self, name: str) -> _Track:
        return self._probe if name == PROBE else self._conditions[name]

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Count a fact, until the service is ready for the first time."""
        if self._final is not None:
            return
        came_true = self._count(fact)
        if changed is None:
            return
        cause = self._probe
        if isinstance(fact, ConditionChanged):
            cause = self._conditions.get(fact.name, cause)
        if changed.current is Stage.GRACE:
            self._grace.opening = _Opening(changed.at, cause, self._opening_of(cause))
        elif changed.current is Stage.READY:
            # A condition that came true ends the wait, unless it was the grace that was missing.
            was_last = came_true and cause.required and isinstance(fact, ConditionChanged)
            last = cause if was_last else self._grace
            end = _Opening(changed.at, last, self._opening_of(last))
            self._final = self._account(end, ready=True)
        elif changed.previous is Stage.GRACE:
            self._grace.opening = None  # it did not last

    def stopped(self, at: float) -> None:
        """Nothing follows: the account stays as it is."""
        self._stopped_at = at

    def account(self, now: float) -> Account:
        """The account up to ready; before that, up to `now`."""
        final = self._final
        if final is not None:
            return final
        now = max(self._entry.at, now if self._stopped_at is None else self._stopped_at)
        waited = self._start
        if self._booted:
            waited = self._waited_for()
        end = _Opening(now, waited, self._opening_of(waited))
        return self._account(end, ready=False)

    # -- inside ------------------------------------------------------------------------------------

    def _enter(self, at: float) -> None:
        self._booted = True
        if at > self._began_at:  # else it was not the first start-up of the process
            self._entry = _Opening(at, self._start, self._entry)
        for track in (self._probe, *self._conditions.values()):
            if not track.needs:
                track.opening = self._entry

    def _count(self, fact: Fact) -> bool:
        """Count a fact; return whether it made something true."""
        match fact:
            case BootFinished(at=at):
                self._enter(at)
            case ProbeSucceeded(at=at):
                return self._hold(self._probe, at)
            case ProbeFailed():
                self._probe.holds = False
            case ConditionChanged(name=name) if name not in self._conditions:
                pass  # it is disabled
            case ConditionChanged(at=at, name=name, satisfied=True):
                return self._hold(self._conditions[name], at)
            case ConditionChanged(name=name):
                self._conditions[name].holds = False
        return False

    def _hold(self, track: _Track, at: float) -> bool:
        """Mark it as holding; return whether it was not before."""
        if track.holds:
            return False
        track.holds, track.held_at = True, at
        if track.required:
            self._last_to_hold = track.name
        for other in track.opens:
            if not other.holds and all(need.holds for need in other.needs):
                other.opening = _Opening(at, track, self._opening_of(track))
        return True

    def _opening_of(self, track: _Track) -> _Opening:
        return track.opening or self._entry

    def _waited_for(self) -> _Track:
        """What it waits for now: of several, the one that opened last."""
        if not self._probe.holds:
            return self._probe
        unmet = [one.unmet() for one in self._conditions.values() if one.required and not one.holds]
        if unmet:
            return max(unmet, key=lambda track: self._opening_of(track).at)
        return self._grace

    def _account(self, end: _Opening, *, ready: bool) -> Account:
        began_at, total = self._began_at, end.at - self._began_at
        path: list[AccountStep] = []
        on_path: set[int] = set()
        later: _Opening | None = end
        while later is not None and later.before is not None and later.by is not None:
            track, before = later.by, later.before
            on_path.add(id(track))
            done = ready or later is not end
            times = before.at - began_at, later.at - began_at
            path.append(_step(track, *times, critical=True, done=done))
            later = before
        beside = [
            self._beside(track, total)
            for track in (self._probe, *self._conditions.values(), self._grace)
            if id(track) not in on_path and self._booted
        ]
        shown = [step for step in beside if step is not None]
        shown.sort(key=lambda step: (step.began_seconds is None, step.began_seconds or 0.0))
        return Account(ready, total, (*reversed(path), *shown), self._last_to_hold)

    def _beside(self, track: _Track, total: float) -> AccountStep | None:
        began_at, opening = self._began_at, track.opening
        if opening is None:
            if track is self._grace:
                return None
            return _step(track, None, total, critical=False, done=track.holds)
        began = opening.at - began_at
        if track is self._grace:
            ended = began + self._grace_seconds
            return _step(track, began, min(ended, total), critical=False, done=ended <= total)
        ended = track.held_at - began_at if track.holds else total
        return _step(track, began, ended, critical=False, done=track.holds)


def _step(
    track: _Track, began: float | None, ended: float, *, critical: bool, done: bool
) -> AccountStep:
    return AccountStep(
        track.name, track.kind, began, ended, critical, done, track.required, track.after
    )
