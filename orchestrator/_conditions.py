"""Conditions: named things that must be true, held true by the code that makes them so."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from orchestrator._errors import DuplicateCondition, UnknownCondition

Tell = Callable[[str, bool, str], None]
"""Passes name, satisfied and reason on to the driver."""


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

    As a context manager it is true exactly while the block runs, whatever ends the block::

        with startup.condition("chat-listener"):
            async for message in messages: ...

    Or say it yourself with `set`. Both are for the event loop's thread. Once the orchestrator is
    stopped or left they do nothing, since tasks come up and end in a shutdown as chance has it.
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
            NotRunning: Before the orchestrator is entered.
            WrongThread: From another thread than the event loop's.
        """
        self._tell(self.name, satisfied, reason)

    def __enter__(self) -> Self:
        if self._held:
            raise DuplicateCondition(
                f"condition {self.name!r} is already held by another block; declare one condition"
                " for each task that must be up"
            )
        self._tell(self.name, True, "")
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
        self._tell(self.name, False, reason)


class Conditions:
    """The declared conditions of one orchestrator, by name.

    Args:
        declared: Names with whether each is required.
        tell: Passes on what is said of one.
    """

    def __init__(self, declared: Mapping[str, bool], tell: Tell) -> None:
        self._handles = {name: Condition(name, tell) for name in declared}

    def handle(self, name: str) -> Condition:
        """The handle on a condition, always the same one.

        Raises:
            UnknownCondition: When it was not declared.
        """
        try:
            return self._handles[name]
        except KeyError:
            known = ", ".join(map(repr, self._handles)) or "none"
            raise UnknownCondition(
                f"condition {name!r} was never declared; declared: {known}. Add it to"
                " Orchestrator(conditions=[...])"
            ) from None
