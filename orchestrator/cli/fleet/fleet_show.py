"""What `fleet` shows: a table in a terminal, lines elsewhere, or JSON.

Everything comes from other processes by way of Redis. It was checked when it was read, and holds no
control characters.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.cli._shell.foreign_text import json_line
from orchestrator.cli._shell.style import STAGE_STYLES, MovingPart, can_move, console_on
from orchestrator.cli.fleet.fleet_words import (
    age,
    row_line,
    totals_lines,
)
from orchestrator.fleet._fleet_json import fleet_json, instance_json, news_json
from orchestrator.fleet._fleet_rows import FleetRow, fleet_rows, fleet_totals
from orchestrator.fleet._news import (
    Change,
    Contact,
    FleetNews,
    Instance,
    Missed,
    Presence,
    SilentTogether,
)
from orchestrator.fleet._presence import PresenceVerdict

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

_PRESENCE_STYLES = {
    PresenceVerdict.ALIVE: "",
    PresenceVerdict.STUCK: "red",
    PresenceVerdict.SILENT: "red",
    PresenceVerdict.LEFT: "bright_black",
    PresenceVerdict.UNKNOWN: "yellow",
}
_MOST_ROWS_IN_LINES = 200
_OTHER_LINES = 8
"""What the panel has besides its rows: frame, totals, heads, and how many more there are."""

_REDRAW_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which instances are shown.

    Attributes:
        version: Only those that run this; `None` for all.
        text: Only those with this text in their row.
    """

    version: str | None = None
    text: str = ""

    def rows(self, instances: Mapping[str, Instance]) -> list[FleetRow]:
        """The rows."""
        return fleet_rows([*instances.values()], version=self.version, text=self.text)

    def has(self, instance: Instance) -> bool:
        """Whether news of this instance is shown."""
        return bool(self.rows({"": instance}))


class FleetShow:
    """Shows a fleet.

    Args:
        service: The service.
        wanted: Which instances are shown.
    """

    def __init__(self, service: str, wanted: Wanted) -> None:
        self.service = service
        self.wanted = wanted

    def open(self) -> None:
        """Begin."""

    def first(self, instances: Mapping[str, Instance]) -> None:
        """These were there when Redis answered for the first time."""

    def news(self, one: FleetNews) -> None:
        """Something happened."""

    def gone(self, why: str) -> None:
        """Redis does not answer."""

    def now(self, instances: Mapping[str, Instance], gone: str) -> None:
        """This is how things stand now."""

    def close(self) -> None:
        """Leave the terminal as it was."""


class FleetJson(FleetShow):
    """One JSON object on each line: the fleet first, then whatever happens."""

    def first(self, instances: Mapping[str, Instance]) -> None:
        """Print it."""
        self._print("fleet", fleet_json(self.service, self.wanted.rows(instances)))

    def news(self, one: FleetNews) -> None:
        """Print it."""
        name, says, about = news_json(one)
        if not about:
            self._print(name, says)
        for instance in filter(self.wanted.has, about):
            self._print(name, says | {"instance": instance_json(instance)})

    def _print(self, name: str, data: Mapping[str, object]) -> None:
        print(json_line({"event": name, "data": data}), flush=True)  # noqa: T201  a command line


class FleetLines(FleetShow):
    """The table once, and then a line for everything that happens."""

    _one_line = True

    def __init__(self, service: str, wanted: Wanted) -> None:
        super().__init__(service, wanted)
        self._console = console_on(sys.stdout)
        self._why = ""

    def first(self, instances: Mapping[str, Instance]) -> None:
        """Print the totals and the rows."""
        rows = self.wanted.rows(instances)
        for line in totals_lines(self.service, fleet_totals(row.instance for row in rows)):
            self._say(line)
        for row in rows[:_MOST_ROWS_IN_LINES]:
            self._say(row_line(row, time.time()))
        if len(rows) > _MOST_ROWS_IN_LINES:
            self._say(f"... and {len(rows) - _MOST_ROWS_IN_LINES} more")

    def news(self, one: FleetNews) -> None:
        """Print a line."""
        match one:
            case Change(instance, changed) if self.wanted.has(instance):
                line = _head(changed.at, instance)
                line.append_text(_stage(changed.previous)).append(" -> ")
                line.append_text(_stage(changed.current))
                line.append(f" after {changed.elapsed_seconds:.3f} s", "bright_black")
                line.append(f": {changed.cause}" if changed.cause else "")
                self._say(line)
            case Presence(instance, presence) if self.wanted.has(instance):
                line = _head(time.time(), instance)
                line.append(f"{presence}", _PRESENCE_STYLES[presence])
                line.append(f"; it was {instance.stage}" if presence != "alive" else "")
                self._say(line)
            case Missed(instance, count) if self.wanted.has(instance):
                self._say(_head(time.time(), instance).append(f"{count} changes are lost"))
            case SilentTogether():
                self._say(str(one))
            case Contact(reached=True):
                self._why = ""
                self._say("Redis answers again")
            case _:
                pass

    def gone(self, why: str) -> None:
        """Print a line, once for each reason."""
        if why != self._why:
            self._why = why
            self._say(f"{why}; trying again")

    def _say(self, line: "str | Text") -> None:
        self._console.print(line, soft_wrap=self._one_line)


class FleetPanel(FleetLines):
    """The table, drawn over and over."""

    _one_line = False

    def __init__(self, service: str, wanted: Wanted) -> None:
        super().__init__(service, wanted)
        self._part = MovingPart(self._console)
        self._drawn_at = 0.0

    def open(self) -> None:
        """Put the panel up."""
        self._part.start()

    def first(self, instances: Mapping[str, Instance]) -> None:
        """Draw it."""
        self.now(instances, "")

    def news(self, one: FleetNews) -> None:
        """The table says it; only what concerns the whole fleet gets a line."""
        if isinstance(one, SilentTogether):
            super().news(one)

    def gone(self, why: str) -> None:
        """The panel says it."""

    def now(self, instances: Mapping[str, Instance], gone: str) -> None:
        """Draw it anew, a few times a second at most."""
        if time.monotonic() - self._drawn_at >= _REDRAW_SECONDS:
            self._drawn_at = time.monotonic()
            rows = self.wanted.rows(instances)
            most = max(1, self._console.height - _OTHER_LINES)
            self._part.draw(_panel(self.service, rows, gone, most))

    def close(self) -> None:
        """Take the panel away."""
        self._part.stop()


def make_show(service: str, wanted: Wanted, *, as_json: bool, once: bool) -> FleetShow:
    """What fits where standard output goes."""
    if as_json:
        return FleetJson(service, wanted)
    return (FleetPanel if can_move(sys.stdout) and not once else FleetLines)(service, wanted)


def _head(at: float, instance: Instance) -> "Text":
    from rich.text import Text  # only where something is shown

    line = Text(f"{time.strftime('%H:%M:%S', time.localtime(at))}  ", "bright_black")
    named = f"{instance.name} ({instance.version})" if instance.version else instance.name
    return line.append(f"{named}  ")


def _stage(name: str) -> "Text":
    from rich.text import Text  # only where something is shown

    return Text(name, STAGE_STYLES.get(name, ""))


def _panel(service: str, rows: Sequence[FleetRow], gone: str, most: int) -> "RenderableType":
    from rich.console import Group
    from rich.panel import Panel  # only where something is shown
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, expand=True, padding=(0, 1), header_style="bright_black")
    for name in ("instance", "version", "stage", "since", "presence", "tries"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    table.add_column("waits for", no_wrap=True, overflow="ellipsis", ratio=1)
    unix_now = time.time()
    for row in rows[:most]:
        one = row.instance
        said = row.untold, row.waits_for, row.failure, row.slow_step
        words = "; ".join(part for part in said if part)
        table.add_row(
            Text(one.name),
            Text(one.version),
            _stage(one.stage),
            age(one.since, unix_now),
            Text("draining" if one.state.draining else one.presence, _style_of(row)),
            str(one.state.attempts),
            Text(words),
        )
    totals = totals_lines(service, fleet_totals(row.instance for row in rows))
    parts: list[RenderableType] = [Text("\n".join(totals[:4]))]
    if gone:
        parts.insert(0, Text(f"{gone}; what follows is old", "red"))
    parts.append(table)
    if len(rows) > most:
        parts.append(Text(f"... and {len(rows) - most} more: --filter shows fewer", "bright_black"))
    return Panel(Group(*parts), border_style="red" if gone else "bright_black")


def _style_of(row: FleetRow) -> str:
    return "yellow" if row.instance.state.draining else _PRESENCE_STYLES[row.instance.presence]
