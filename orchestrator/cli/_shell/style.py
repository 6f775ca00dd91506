"""How the commands look in a terminal: the colours of the stages, and when anything moves."""

import contextlib
import os
from typing import TYPE_CHECKING, Any, TextIO

from states import Stage

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

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
    from rich.console import Console  # rich is slow to load

    return Console(file=stream, highlight=False, markup=False, emoji=False)


def can_move(stream: TextIO) -> bool:
    """Whether this is a terminal that can show something that changes, and its user wants it.

    NO_COLOR alone only asks for no colours; here it also asks for nothing that moves.
    """
    dumb = os.environ.get("TERM", "").lower() in ("", "dumb", "unknown")
    return stream.isatty() and not dumb and not os.environ.get("NO_COLOR")


class MovingPart:
    """What is drawn over and over at the end of a terminal, and taken away when it is stopped.

    Meanwhile the terminal writes no `^C` into it. That would push a panel out of its place, and
    half of it would stay. What the keys do is the same.

    Args:
        console: Where; what it prints meanwhile goes above.
    """

    def __init__(self, console: "Console") -> None:
        from rich.live import Live  # loaded only for a terminal

        # Refreshed by whoever draws, not by a thread: lines are printed meanwhile.
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._before: list[Any] | None = None  # as termios has it

    def start(self) -> None:
        """Begin, with nothing drawn yet."""
        self._echo_no_keys()
        self._live.start()

    def draw(self, what: "RenderableType") -> None:
        """Draw this in the place of what was there."""
        self._live.update(what, refresh=True)

    def stop(self) -> None:
        """Leave the terminal as it was. Calling it twice, or without a start, does no harm."""
        try:
            self._live.stop()
        finally:
            self._echo_keys()

    def _echo_no_keys(self) -> None:
        """Where we are in the foreground of a terminal."""
        with contextlib.suppress(ImportError, OSError, ValueError):
            import termios  # not on every platform

            if os.tcgetpgrp(0) == os.getpgrp():  # else we would be stopped
                before = termios.tcgetattr(0)
                changed = [*before]
                changed[3] &= ~termios.ECHOCTL
                termios.tcsetattr(0, termios.TCSANOW, changed)
                self._before = before

    def _echo_keys(self) -> None:
        before, self._before = self._before, None
        with contextlib.suppress(ImportError, OSError):
            import termios

            if before is not None and os.tcgetpgrp(0) == os.getpgrp():
                termios.tcsetattr(0, termios.TCSANOW, before)
