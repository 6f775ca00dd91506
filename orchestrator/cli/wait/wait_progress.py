"""What `wait` shows while it waits: a live line in a terminal, plain lines elsewhere.

It goes to standard error, so that standard output belongs to CMD and to JSON.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio

from orchestrator import (
    Explanation,
    Observer,
    Orchestrator,
    ProbeFailed,
    StageChanged,
    StartupContext,
    Target,
)
from orchestrator.cli._shell.output import print_error
from orchestrator.cli._shell.style import STAGE_STYLES, MovingPart, can_move, console_on
from states import Fact

if TYPE_CHECKING:
    from rich.text import Text

_REFRESH_SECONDS = 0.1


class WaitProgress(Observer):
    """Shows nothing: for `--quiet` and `--json`."""

    async def keep_moving(self, startup: Orchestrator) -> None:
        """Keep what is shown up to date until cancelled."""

    def close(self) -> None:
        """Take away what moves."""


def place(target: Target) -> str:
    """Where Redis is, for a person."""
    port = "" if target.port is None else f":{target.port}"
    return f"redis at {target.address}{port}"


class PlainProgress(WaitProgress):
    """A line when the waiting begins, and one for each new kind of failure."""

    def __init__(self) -> None:
        self._began_at = time.monotonic()
        self._kinds: set[str] = set()

    def started(self, context: StartupContext) -> None:
        """Say what is waited for."""
        where, budget = place(context.target), context.policy.budget_seconds
        if context.enabled:
            self._say(f"waiting for {where}, at most {budget:g} s")

    def observed(self, fact: Fact, changed: StageChanged | None) -> None:  # the port's
        """Say why an attempt failed, once for each kind: there may be hundreds of attempts."""
        if isinstance(fact, ProbeFailed) and fact.failure.error_type not in self._kinds:
            self._kinds.add(fact.failure.error_type)
            self._say(fact.failure.reason)

    def _say(self, text: str) -> None:
        print_error(f"{time.monotonic() - self._began_at:7.2f} s  {text}")


class LiveProgress(WaitProgress):
    """One line that says the stage, the time left, the attempts and the last reason."""

    def __init__(self) -> None:
        self._part = MovingPart(console_on(sys.stderr))

    async def keep_moving(self, startup: Orchestrator) -> None:
        """Draw the line again and again."""
        try:
            with _unless_it_cannot_be_written():
                self._part.start()
                while True:
                    self._part.draw(_line(startup.explain()))
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


def _line(known: Explanation) -> "Text":
    from rich.text import Text  # loaded only where somebody looks

    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(known.stage.value, f"bold {STAGE_STYLES[known.stage]}")
    text.append(f" {known.in_stage_seconds:.1f} s")
    if known.budget_left_seconds is not None:
        text.append(f"  {known.budget_left_seconds:.0f} s left")
    text.append(f"  attempt {known.attempts}", "bright_black")
    if known.last_failure is not None:
        text.append(f"  {known.last_failure.reason}")
    return text


def make_progress(*, quiet: bool) -> WaitProgress:
    """The progress that fits where standard error goes."""
    if quiet:
        return WaitProgress()
    return LiveProgress() if can_move(sys.stderr) else PlainProgress()
