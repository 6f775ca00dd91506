"""Conditions: named things that must be true, held true by the code that makes them so."""

import inspect
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Self

from orchestrator._core.order import PROBE
from orchestrator._errors import DuplicateCondition, UnknownCondition
from orchestrator._hardening.arguments import require, require_flag, require_items, wrong_type
from orchestrator._hardening.text import MOST_NAME_CHARACTERS, one_line, reason_of
from states._records import record

SetCondition = Callable[[str, bool, str], None]
"""Passes name, satisfied and reason on to the driver."""


@record
class ConditionSpec:
    """The declaration of a condition.

    Attributes:
        name: Its name, as it appears in events, pages and traces.
        required: Whether ready needs it; one that is not required only reports.

    Raises:
        TypeError: When the name is no `str`, or `required` no `bool`.
    """

    name: str
    required: bool = True

    def __post_init__(self) -> None:
        require(self.name, str, "the name of a condition", "write ConditionSpec('cache')")
        require_flag(self.required, "required")


_LIST = "write conditions=['cache', ConditionSpec('billing', required=False)]"


def declare(conditions: Iterable[str | ConditionSpec]) -> dict[str, ConditionSpec]:
    """The declarations by name.

    Names are kept as one printable line: what cannot be shown is escaped.

    Raises:
        DuplicateCondition: When a name is declared twice, or is that of the probe.
        TypeError: When it holds anything but names and `ConditionSpec`.
        ValueError: When a name is empty or too long, or `conditions` is a single string.
    """
    if isinstance(conditions, str):
        raise ValueError(f"conditions must be a list of names: write [{one_line(conditions)!r}]")
    declared: dict[str, ConditionSpec] = {}
    for item in require_items(conditions, "conditions", "a list", _LIST):
        spec = ConditionSpec(item) if isinstance(item, str) else item
        if not isinstance(spec, ConditionSpec):
            raise wrong_type(item, "a condition", "a name or a ConditionSpec", _LIST)
        name = name_as_kept(spec.name)
        if not name:
            raise ValueError("a condition needs a name that is not empty")
        if len(name) > MOST_NAME_CHARACTERS:
            raise ValueError(
                f"a condition's name may have {MOST_NAME_CHARACTERS} characters, and"
                f" {one_line(name, 40)!r} has {len(spec.name)}: shorten it"
            )
        if name == PROBE:
            raise DuplicateCondition(
                f"{PROBE!r} names the orchestrator's own probe, whatever that asks; give the"
                " condition another name"
            )
        if name in declared:
            raise DuplicateCondition(f"condition {name!r} is declared twice; drop one of them")
        declared[name] = spec
    return declared


def name_as_kept(name: str) -> str:
    """A name as it is kept; one that is too long stays too long."""
    return one_line(name.strip(), 2 * MOST_NAME_CHARACTERS)


class Condition:
    """A handle on one declared condition.

    As a context manager it is true exactly while the block runs, whatever ends the block::

        with startup.condition("chat-listener"):
            async for message in messages: ...

    Or say it yourself with `set`. Both may be used in any thread; in others than the event loop's
    they take effect with the loop's next turn. Once the orchestrator is stopped or left they do
    nothing, since tasks end in any order during a shutdown.
    """

    def __init__(
        self,
        name: str,
        set_condition: SetCondition,
        life: Callable[[], int],
        beat: Callable[[str], None],
    ) -> None:
        self.name = name
        self._set_condition = set_condition
        self._beat = beat
        self._life = life
        self._held: list[tuple[int, int]] = []  # open blocks: where each is, and in which start-up

    def set(self, satisfied: bool, *, reason: str = "") -> None:
        """Say whether the condition holds, and why.

        Args:
            satisfied: Whether it holds now.
            reason: One line for a person, of 500 characters at most; a longer one is cut, and what
                cannot be shown is escaped. It is shown in pages and traces: no secrets. Of anything
                but text and numbers, such as an exception, only the type is shown.

        Raises:
            NotRunning: Before the orchestrator is entered.
            TypeError: When `satisfied` is neither True nor False.
        """
        require_flag(satisfied, "satisfied", "write set(bool(...)), and call what is a function")
        self._set_condition(self.name, satisfied, reason_of(reason))

    def beat(self) -> None:
        """Say that the task that holds the condition still works; see `Task.stale_seconds`.

        It costs next to nothing, and may be called in any thread.
        """
        self._beat(self.name)

    def __enter__(self) -> Self:
        life = self._life()
        if any(life == held for _, held in self._held):
            raise DuplicateCondition(
                f"condition {self.name!r} is already held by another block; declare one condition"
                " for each task that must be up"
            )
        self._set_condition(self.name, True, "")
        self._held.append((_caller(inspect.currentframe()), life))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        if self._leave_block(_caller(inspect.currentframe())) != self._life():
            return  # a block of an earlier start-up, or of a fork's parent: it no longer counts
        # Only the type: the text of an exception of the application may hold anything.
        reason = f"its task ended with {kind.__name__}" if kind else "its task ended"
        self._set_condition(self.name, False, reason_of(reason))

    def _leave_block(self, caller: int) -> int | None:
        """Return the number of the start-up in which the ending block was entered.

        A `with` statement begins and ends in one frame. Where another ends it, as `ExitStack` does,
        it is the oldest of those left.
        """
        if not self._held:
            return None
        callers = [held for held, _ in self._held]
        return self._held.pop(callers.index(caller) if caller in callers else 0)[1]

    def forget(self) -> None:
        """No block is open: this process is a fork, and they are its parent's."""
        self._held.clear()


def _caller(frame: FrameType | None) -> int:
    """Identify the call that called the function with this frame."""
    return id(frame and frame.f_back)


class Conditions:
    """The declared conditions of one orchestrator, by name.

    Args:
        set_condition: Passes on the state of one.
        life: The number of the start-up.
        beat: Takes a sign of life of the task that holds one.
    """

    def __init__(
        self, set_condition: SetCondition, life: Callable[[], int], beat: Callable[[str], None]
    ) -> None:
        self._given = set_condition, life, beat
        self._handles: dict[str, Condition] = {}

    def add(self, names: Iterable[str]) -> None:
        """Make a handle on each that has none."""
        for name in names:
            self._handles.setdefault(name, Condition(name, *self._given))

    def handle(self, name: str) -> Condition:
        """The handle on a condition, always the same one.

        Raises:
            TypeError: When the name is no `str`.
            UnknownCondition: When it was not declared.
        """
        require(name, str, "the name of a condition", "write startup.condition('cache')")
        name = name_as_kept(name)
        try:
            return self._handles[name]
        except KeyError:
            known = ", ".join(map(repr, self._handles)) or "none"
            raise UnknownCondition(
                f"condition {one_line(name)!r} was never declared; declared: {known}. Add it to"
                " Orchestrator(conditions=[...])"
            ) from None

    def forget(self) -> None:
        """No block is open: this process is a fork, and they are its parent's."""
        for handle in self._handles.values():
            handle.forget()
