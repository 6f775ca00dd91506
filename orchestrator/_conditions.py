"""Conditions: named things that must be true, held true by the code that makes them so."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from orchestrator._errors import DuplicateCondition


class Tell(Protocol):
    """Passes what is said of a condition on to the driver."""

    def __call__(self, name: str, satisfied: bool, reason: str, *, task: bool = False) -> None:
        """Pass it on.

        Args:
            name: The condition's name.
            satisfied: Whether it holds.
            reason: Why.
            task: Whether a task says it by entering or leaving a block. Tasks come up and end in a
                shutdown as chance has it, so after the orchestrator was left that is no mistake.

        Raises:
            NotRunning: Outside of `async with orchestrator`.
        """


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """The declaration of a condition.

    Attributes:
        name: Its name, as it appears in events, pages and traces.
        required: Whether ready needs it; one that is not required only reports.
    """

    name: str
    required: bool = True


def declare(conditions: Iterable[str | ConditionSpec]) -> dict[str, bool]:
    """Names with whether each is required.

    Raises:
        DuplicateCondition: When a name is declared twice.
        ValueError: When a name is empty, or `conditions` is a single string.
    """
    if isinstance(conditions, str):
        raise ValueError(f"conditions must be a list of names: write [{conditions!r}]")
    declared: dict[str, bool] = {}
    for item in conditions:
        spec = ConditionSpec(item) if isinstance(item, str) else item
        if not spec.name.strip():
            raise ValueError("a condition needs a name that is not empty")
        if spec.name in declared:
            raise DuplicateCondition(f"condition {spec.name!r} is declared twice; drop one of them")
        declared[spec.name] = spec.required
    return declared


class Condition:
    """A handle on one declared condition.

    As a context manager it is true exactly while the block runs, whatever ends the block:

        with startup.condition("chat-listener"):
            async for message in messages: ...

    Entering it before the orchestrator raises `NotRunning`; after the orchestrator was left it does
    nothing, since tasks may come up while a service shuts down. Or say it yourself with `set`.
    """

    def __init__(self, name: str, tell: Tell) -> None:
        self.name = name
        self._tell = tell
        self._held = False

    def set(self, satisfied: bool, *, reason: str = "") -> None:
        """Say whether the condition holds, and why.

        Args:
            satisfied: Whether it holds now.
            reason: One line for a person. It is shown in pages and traces: no secrets.

        Raises:
            NotRunning: Outside of `async with orchestrator`.
        """
        self._tell(self.name, satisfied, reason)

    def __enter__(self) -> Self:
        if self._held:
            raise DuplicateCondition(
                f"condition {self.name!r} is already held by another block; declare one condition"
                " for each task that must be up"
            )
        self._tell(self.name, True, "", task=True)
        self._held = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held = False
        # Only the type: the text of an exception of the application may hold anything.
        reason = f"its task ended with {kind.__name__}" if kind else "its task ended"
        self._tell(self.name, False, reason, task=True)
