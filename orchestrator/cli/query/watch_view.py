"""What `watch` shows: a panel in a terminal, lines elsewhere, or JSON."""

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.cli._shell.foreign_text import json_line, listed, number, shown
from orchestrator.cli._shell.style import STAGE_STYLES, MovingPart, can_move, console_on
from orchestrator.cli.query.explain import State, conditions, seconds
from orchestrator.cli.query.pod_words import workers_in_words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_LABEL_CELLS = 10


class WatchView:
    """Shows what happens to a service."""

    def open(self) -> None:
        """Begin."""

    def stage(self, event: Mapping[str, object]) -> None:
        """The stage has changed."""

    def state(self, state: State) -> None:
        """This is how things stand now."""

    def gone(self, why: str) -> None:
        """Nothing answers, for now."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class WatchJson(WatchView):
    """One JSON object on each line."""

    def stage(self, event: Mapping[str, object]) -> None:
        """Print it."""
        self._print("stage", event)

    def state(self, state: State) -> None:
        """Print it."""
        self._print("state", state)

    def gone(self, why: str) -> None:
        """Print it."""
        self._print("gone", {"reason": why})

    def _print(self, name: str, data: Mapping[str, object]) -> None:
        print(json_line({"event": name, "data": data}), flush=True)  # noqa: T201  a command line


class WatchLines(WatchView):
    """One line for each change of stage."""

    _one_line = True
    """Where there is no terminal nothing is wrapped: one event is one line."""

    def __init__(self) -> None:
        self._console = console_on(sys.stdout)
        self._why = ""
        self._drains = False

    def stage(self, event: Mapping[str, object]) -> None:
        """Print a line: when, from where to where, and why."""
        from rich.text import Text  # only where something is shown

        line = Text(f"{_clock_time(event.get('at_unix_seconds'))}  ", "bright_black")
        line.append_text(_stage(event.get("previous"))).append(" -> ")
        line.append_text(_stage(event.get("current")))
        line.append(f" after {seconds(event.get('elapsed_seconds'), 3)}", "bright_black")
        line.append(f": {shown(event['cause'])}" if event.get("cause") else "")
        self._console.print(line, soft_wrap=self._one_line)

    def state(self, state: State) -> None:  # there are lines for changes only
        """It answers again; say once that it drains."""
        self._why = ""
        draining = shown(state.get("draining") or "")
        if draining and not self._drains:
            self._console.print(f"draining: {draining}", soft_wrap=self._one_line)
        self._drains = bool(draining)

    def gone(self, why: str) -> None:
        """Print a line, once."""
        if why != self._why:
            self._why = why
            self._console.print(f"{why}; trying again", soft_wrap=self._one_line)


class WatchPanel(WatchLines):
    """The same lines, and below them how things stand."""

    _one_line = False

    def __init__(self) -> None:
        super().__init__()
        self._state: State = {}
        self._part = MovingPart(self._console)

    def open(self) -> None:
        """Put the panel up."""
        self._part.start()

    def state(self, state: State) -> None:
        """Draw it anew."""
        super().state(state)
        self._state = state
        self._part.draw(_panel(state, gone=""))

    def gone(self, why: str) -> None:
        """Keep the last state, and say that it is old."""
        super().gone(why)
        self._part.draw(_panel(self._state, gone=why))

    def close(self) -> None:
        """Take the panel away."""
        self._part.stop()


def make_view(*, as_json: bool) -> WatchView:
    """The view that fits where standard output goes."""
    if as_json:
        return WatchJson()
    return WatchPanel() if can_move(sys.stdout) else WatchLines()


def _stage(name: object) -> "Text":
    from rich.text import Text  # only where something is shown

    return Text(shown(name), STAGE_STYLES.get(shown(name), ""))


def _clock_time(at: object) -> str:
    known = number(at)
    try:
        return time.strftime("%H:%M:%S", time.localtime(known or 0.0))
    except (OverflowError, OSError, ValueError):  # no calendar goes so far
        return "--:--:--"


def _panel(state: State, *, gone: str) -> "RenderableType":
    from rich.panel import Panel  # only where something is shown
    from rich.table import Table
    from rich.text import Text

    rows = Table.grid(padding=(0, 2), expand=True)
    rows.add_column(style="bright_black", no_wrap=True, width=_LABEL_CELLS)
    rows.add_column(overflow="fold", ratio=1)
    if gone:
        rows.add_row("gone", gone)
    if state:
        label = "last known" if gone else "stage"
        rows.add_row(label, _stage(state["stage"]) + f" for {seconds(state.get('since_seconds'))}")
        if draining := state.get("draining"):
            rows.add_row("draining", Text(shown(draining)))
        waits = "; ".join(listed(state.get("waits_for")))
        rows.add_row("waits for", Text(waits or "nothing"))
        if state.get("budget_left_seconds") is not None:
            rows.add_row("budget", f"{seconds(state['budget_left_seconds'])} left")
        attempts, in_row = (shown(state.get(name)) for name in ("attempts", "failures_in_row"))
        failed = f"{shown(state['failures'])} failed, " if "failures" in state else ""
        rows.add_row("attempts", Text(f"{attempts}, {failed}{in_row} failed in a row"))
        failure = state.get("last_failure")
        if isinstance(failure, dict):
            when = "" if state.get("failures_in_row") else " (last time)"
            if number(state.get("last_failure_seconds")) is not None and when:
                when = f" (last time, {seconds(state['last_failure_seconds'])} ago)"
            rows.add_row("failure", Text(f"{shown(failure.get('reason'))}{when}"))
        for name, view in conditions(state):
            rows.add_row("condition", Text(f"{name} {view}"))
        for name, words in workers_in_words(state):
            rows.add_row("workers", Text(words if name == "all" else f"{name}: {words}"))
    style = "red" if gone else "bright_black"
    return Panel(rows, border_style=style)
