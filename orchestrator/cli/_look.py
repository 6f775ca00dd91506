"""How the commands look in a terminal: the colours of the stages, and when anything moves."""

import os
from typing import TYPE_CHECKING, TextIO

from states import Stage

if TYPE_CHECKING:
    from rich.console import Console

STAGE_STYLES = {
    Stage.BOOTING.value: "bright_black",
    Stage.PROBING_REDIS.value: "yellow",
    Stage.GRACE.value: "cyan",
    Stage.READY.value: "green",
    Stage.DEGRADED.value: "red",
}


def console_on(stream: TextIO) -> "Console":
    """A console on standard output or error. Without a terminal, or with NO_COLOR, no colours."""
    # Loaded only where it is used: it takes about as long as all else that a command loads.
    from rich.console import Console  # noqa: PLC0415  rich is slow to load

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def can_move(stream: TextIO) -> bool:
    """Whether this is a terminal that can show something that changes, and its user wants it.

    NO_COLOR alone only asks for no colours; here it also asks for nothing that moves.
    """
    dumb = os.environ.get("TERM", "").lower() in ("", "dumb", "unknown")
    return stream.isatty() and not dumb and not os.environ.get("NO_COLOR")
