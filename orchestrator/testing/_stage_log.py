"""Assertions on the stages that a service went through, with a text that says what went wrong."""

from collections.abc import Iterator, Sequence
from types import EllipsisType

from orchestrator._core.explanation import cause_in_words
from orchestrator._ports import Observer, StartupContext
from orchestrator.testing._stage_names import stage_called
from states import Fact, Failure, ProbeFailed, ProbeSucceeded, Stage, StageChanged

Expected = Stage | str | EllipsisType


class StageLog(Observer):
    """Remembers every change of stage of the last start-up. Give it as an observer.

    Example::

        log = StageLog()
        startup = Orchestrator(probe, observers=[log])
        ...
        log.assert_went("booting", ..., "ready")

    Attributes:
        events: The changes of stage, in order.
        attempts: How many attempts there were.
        last_failure: Why the last failed attempt failed.
    """

    def __init__(self) -> None:
        self.events: list[StageChanged] = []
        self.attempts: int = 0
        self.last_failure: Failure | None = None
        self._started_at = 0.0
        self._probe = ""

    # -- the observer ------------------------------------------------------------------------------

    def started(self, context: StartupContext) -> None:
        """Forget an earlier start-up, and remember when this one began and what it asks."""
        self.events, self.attempts, self.last_failure = [], 0, None
        self._started_at = context.started_at
        self._probe = context.target.name

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:
        """Remember a change of stage."""
        if changed is not None:
            self.events.append(changed)
        if isinstance(fact, ProbeSucceeded | ProbeFailed):
            self.attempts += 1
        if isinstance(fact, ProbeFailed):
            self.last_failure = fact.failure

    # -- what it went through ----------------------------------------------------------------------

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages so far, from `booting` on."""
        return (Stage.BOOTING, *(event.current for event in self.events))

    def seconds_until(self, stage: Stage | str) -> float:
        """The time from the start of the process until a stage was first entered, in seconds.

        Raises:
            AssertionError: When it never was.
            ValueError: When there is no stage of that name.
        """
        wanted = stage_called(stage)
        for event in self.events:
            if event.current is wanted:
                return event.at - self._started_at
        raise AssertionError(self._text(f"the service never became {wanted}"))

    def assert_went(self, *expected: Expected) -> None:
        """Fail unless these are all the stages, in order. `...` stands for any number of them.

        Raises:
            AssertionError: With both rows, where they part, and when and why each stage began.
            ValueError: When there is no stage of such a name.
        """
        wanted = [one if one is ... else stage_called(one) for one in expected]
        if not _matches(wanted, self.stages):
            lines = ["the service did not go through these stages", *self._compared(wanted)]
            raise AssertionError(self._text("\n".join(lines)))

    def assert_never(self, *stages: Stage | str) -> None:
        """Fail if the service was in one of these stages.

        Raises:
            AssertionError: With when and why each stage began.
            ValueError: When there is no stage of such a name.
        """
        for stage in map(stage_called, stages):
            if stage in self.stages:
                raise AssertionError(self._text(f"the service was {stage}, and never should be"))

    # -- words -------------------------------------------------------------------------------------

    def _compared(self, wanted: Sequence[Stage | EllipsisType]) -> Iterator[str]:
        yield "  expected: " + " -> ".join("..." if one is ... else one for one in wanted)
        yield "  went:     " + " -> ".join(self.stages)
        if ... in wanted:
            return
        for number, (was, should) in enumerate(zip(self.stages, wanted, strict=False), start=1):
            if was is not should:
                yield f"  number {number} is {was}, not {should}"
                return
        if len(self.stages) < len(wanted):
            yield f"  it ended in {self.stages[-1]}, before {wanted[len(self.stages)]}"
        else:
            yield f"  it went on to {self.stages[len(wanted)]}"

    def _text(self, problem: str) -> str:
        lines = [problem, "", "   at (s)  stage          because"]
        lines.append(f"{0.0:9.3f}  {Stage.BOOTING}")
        for event in self.events:
            at = event.at - self._started_at
            why = cause_in_words(event, self._probe)
            lines.append(f"{at:9.3f}  {event.current:<13}  {why}")
        failure = self.last_failure
        last = f"; the last failure: {failure.reason} ({failure.error_type})" if failure else ""
        lines.append(f"attempts: {self.attempts}{last}")
        return "\n".join(lines)


def _matches(wanted: Sequence[Stage | EllipsisType], stages: Sequence[Stage]) -> bool:
    if not wanted:
        return not stages
    first, rest = wanted[0], wanted[1:]
    if first is ...:
        return any(_matches(rest, stages[begin:]) for begin in range(len(stages) + 1))
    return bool(stages) and stages[0] is first and _matches(rest, stages[1:])
