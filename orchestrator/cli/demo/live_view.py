"""How the demo looks: live in a terminal, plain lines elsewhere."""

import sys
import time

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from orchestrator.cli._shell.style import STAGE_STYLES, MovingPart, can_move
from orchestrator.cli.demo.live_figures import Live
from orchestrator.cli.demo.reports import Status

MOST_COLUMNS = 100

STYLES = {**STAGE_STYLES, "good": "green", "bad": "red", "": ""}

_LABEL_CELLS = 10
_BAR_CELLS = 20


def make_console() -> Console:
    """A console that is no wider than is readable."""
    console = Console(highlight=False)
    console.width = min(console.width, MOST_COLUMNS)
    return console


class DemoLines:
    """One line for everything that happens, with the time since the service's process started."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def begin(self, live: Live, title: str) -> None:
        """Print the title."""
        self._live = live
        self._console.print(f"\n== {title} ==")

    def say(self, at: float, text: str, style: str = "") -> None:
        """Print the line."""
        # Not wrapped: where there is no terminal, one event is one line.
        line = Text(self._since_start(at), "bright_black") + Text(f"  {text}", STYLES[style])
        self._console.print(line, soft_wrap=True)

    def _since_start(self, at: float) -> str:
        began_at = self._live.started_at if self._live is not None else at
        return f"{at - began_at:7.3f} s"

    def refresh(self) -> None:
        """Nothing moves."""

    def end(self) -> None:
        """Nothing is left to end."""


class DemoPanel(DemoLines):
    """The same lines, and below them a panel that shows the run as it stands."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._part = MovingPart(console)

    def begin(self, live: Live, title: str) -> None:
        """Print the title and put the panel up."""
        self._live = live
        self._console.print()
        self._console.rule(Text(title, "bold"), align="left", style="bright_black")
        self._part.start()
        self.refresh()

    def say(self, at: float, text: str, style: str = "") -> None:
        """Print the line above the panel, wrapped beside its time."""
        line = Table.grid(padding=(0, 2))
        line.add_column(style="bright_black", no_wrap=True)
        line.add_column(style=STYLES[style])
        line.add_row(self._since_start(at), text)
        self._console.print(line)

    def refresh(self) -> None:
        """Draw the panel anew."""
        if self._live is not None:
            self._part.draw(_panel(self._live))

    def end(self) -> None:
        """Take the panel away."""
        self._part.stop()


def make_view(console: Console) -> DemoLines:
    """A live view where there is a terminal that can show one, plain lines elsewhere."""
    return DemoPanel(console) if can_move(sys.stdout) else DemoLines(console)


def _panel(live: Live) -> RenderableType:
    now = time.monotonic()
    rows = Table.grid(padding=(0, 2), expand=True)
    rows.add_column(style="bright_black", no_wrap=True, width=_LABEL_CELLS)
    rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    status = live.status
    if live.stages:
        rows.add_row("stage", _stages(live, now))
    if status is not None and status.stage:
        rows.add_row("waits for", "; ".join(status.waits_for) or "nothing")
        rows.add_row("attempts", _attempts(status))
        rows.add_row(
            "gate",
            f"{status.held} held, {status.admitted} admitted, {status.refused} refused",
        )
    rows.add_row("clients", _clients(live))
    if status is not None:
        stall = Text(f"{status.max_loop_stall_seconds * 1000:.0f} ms longest stall so far")
        rows.add_row("event loop", stall)
    redis = Text("up", "green") if live.redis_up else Text("down", "red")
    clock = Text(f" {now - live.started_at:.1f} s, Redis ") + redis + " "
    return Panel(rows, title=clock, title_align="right", border_style="bright_black")


def _stages(live: Live, now: float) -> Text:
    text = Text()
    ends = [at for _, at in live.stages[1:]] + [now]
    # The last few: an outage adds three.
    for (stage, at), end in list(zip(live.stages, ends, strict=True))[-4:]:
        if text:
            text.append(" > ", "bright_black")
        current = end == now
        text.append(stage, f"bold {STYLES[stage]}" if current else STYLES[stage])
        text.append(f" {end - at:.1f}s", "" if current else "bright_black")
    return text


def _attempts(status: Status) -> str:
    last = f"; last failure: {status.last_failure}" if status.last_failure else ""
    return f"{status.attempts}{last}"


def _clients(live: Live) -> Text:
    tally = live.tally
    waiting = tally.begun - tally.served - tally.failed
    parts = [
        (tally.served, "green", "served"),
        (waiting, "cyan", "waiting"),
        (tally.failed, "red", "lost"),
    ]
    text = Text()
    drawn = 0
    total = 0
    for count, style, _ in parts:
        total += count
        upto = round(_BAR_CELLS * total / max(1, tally.clients))
        text.append("━" * (upto - drawn), style)
        drawn = upto
    text.append("━" * (_BAR_CELLS - drawn), "bright_black")
    for count, style, word in parts:
        text.append(f"  {count} {word}", style if count else "bright_black")
    return text
