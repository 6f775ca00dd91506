"""What `wait` shows while it waits: live lines in a terminal, plain lines elsewhere.

It goes to standard error, so that standard output belongs to CMD and to JSON.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from orchestrator import (
    ConditionChanged,
    Explanation,
    Failure,
    Observer,
    Orchestrator,
    ProbeFailed,
    ProbeSucceeded,
    StageChanged,
    StartupContext,
)
from orchestrator.cli._shell.asked import Asked, CountedProbe
from orchestrator.cli._shell.output import print_error
from orchestrator.cli._shell.style import STAGE_STYLES, MovingPart, can_move, console_on
from states import Fact

if TYPE_CHECKING:
    from rich.text import Text

_REFRESH_SECONDS = 0.1
_MOST_NAME_CELLS = 40


class WaitProgress(Observer):
    """Shows nothing: for `--quiet` and `--json`."""

    async def keep_moving(self, startup: Orchestrator) -> None:
        """Keep what is shown up to date until cancelled."""

    def asked_once(self, one: CountedProbe) -> None:
        """An attempt at one of the checks has ended."""

    def close(self) -> None:
        """Take away what moves."""


class PlainProgress(WaitProgress):
    """A line when the waiting begins, and one for each new kind of failure."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._began_at = time.monotonic()
        self._kinds: set[tuple[str, str]] = set()
        self._is_up = not (asked.counted or asked.name)  # what follows says it of Redis alone

    def started(self, context: StartupContext) -> None:
        """Say what is waited for."""
        needed = [one.name for one in self._asked.counted if one.required]
        where, budget = ", ".join([self._asked.main, *needed]), context.policy.budget_seconds
        if context.enabled:
            self._say(f"waiting for {where}, at most {budget:g} s")

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
        """Say why an attempt failed, once for each kind: there may be hundreds of attempts."""
        match fact:
            case ProbeFailed(failure=failure):
                self._failed(self._asked.name, failure)
            case ProbeSucceeded() if not self._is_up:
                self._is_up = True
                self._say(f"{self._asked.main}: up")
            case ConditionChanged(name=name, satisfied=True):
                self._say(f"{name}: up")

    def asked_once(self, one: CountedProbe) -> None:
        """The same of a check."""
        if one.failing and one.last_failure is not None:
            self._failed(one.name, one.last_failure)

    def _failed(self, name: str, failure: Failure) -> None:
        if (name, failure.error_type) not in self._kinds:
            self._kinds.add((name, failure.error_type))
            self._say(f"{name}: {failure.reason}" if name else failure.reason)

    def _say(self, text: str) -> None:
        print_error(f"{time.monotonic() - self._began_at:7.2f} s  {text}")


class LiveProgress(WaitProgress):
    """One line that says the stage, the time left, the attempts and the last reason.

    With checks, the attempts and the reason have a line for each of what is asked.
    """

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._part = MovingPart(console_on(sys.stderr))

    async def keep_moving(self, startup: Orchestrator) -> None:
        """Draw the line again and again."""
        try:
            with _unless_it_cannot_be_written():
                self._part.start()
                while True:
                    self._part.draw(_lines(self._asked, startup.explain()))
                    await anyio.sleep(_REFRESH_SECONDS)
        finally:
            self.close()

    def close(self) -> None:
        """Take the line away."""
        with _unless_it_cannot_be_written():
            self._part.stop()


@contextmanager
def _unless_it_cannot_be_written() -> Iterator[None]:
    """A terminal that is gone ends what is shown, and not the waiting. Rich exits then."""
    try:
        yield
    except (OSError, ValueError, SystemExit):
        return


def _lines(asked: Asked, known: Explanation) -> "Text":
    from rich.text import Text  # loaded only for a terminal

    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(known.stage.value, f"bold {STAGE_STYLES[known.stage]}")
    text.append(f" {known.in_stage_seconds:.1f} s")
    if known.budget_left_seconds is not None:
        text.append(f"  {known.budget_left_seconds:.0f} s left")
    if not asked.counted and not asked.name:
        _append(text, known.attempts, known.last_failure)
        return text
    names = [asked.main, *(one.name for one in asked.counted)]
    width = min(_MOST_NAME_CELLS, max(map(len, names)))
    answers = known.attempts > 0 and known.failures_in_row == 0
    _row(text, asked.main, width, None if answers else (known.attempts, known.last_failure))
    for one in asked.counted:
        state = known.conditions[one.name]
        waits = None if state.satisfied else (one.attempts, one.last_failure)
        _row(text, one.name, width, waits, required=one.required)
    return text


def _row(
    text: "Text",
    name: str,
    width: int,
    waits: tuple[int, Failure | None] | None,
    *,
    required: bool = True,
) -> None:
    """A line for one of what is asked, and why it is waited for, if it is."""
    text.append(f"\n  {name[:width].ljust(width)}  ")
    if waits is None:
        text.append("up", "green")
        return
    text.append("waiting" if required else "not needed", "yellow" if required else "bright_black")
    _append(text, *waits)


def _append(text: "Text", attempts: int, failure: Failure | None) -> None:
    text.append(f"  attempt {attempts}", "bright_black")
    if failure is not None:
        text.append(f"  {failure.reason}")


def make_progress(asked: Asked, *, quiet: bool) -> WaitProgress:
    """The progress that fits where standard error goes."""
    if quiet:
        return WaitProgress()
    return LiveProgress(asked) if can_move(sys.stderr) else PlainProgress(asked)
