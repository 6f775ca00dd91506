"""`watch`: the stages of a running service, live."""

import contextlib
import time
from collections import deque

from orchestrator.cli._shell.errors import Unreachable
from orchestrator.cli._shell.exit_codes import BUDGET_SPENT, OK
from orchestrator.cli._shell.foreign_text import shown
from orchestrator.cli._shell.output import ReaderGone, note
from orchestrator.cli.query.client import HttpAddress, events
from orchestrator.cli.query.watch_view import WatchView

_SILENCE_SECONDS = 8.0
"""A stream that tells nothing for so long is dead: the state comes about once a second. But a gate
may hold the request for 5 s before it says that it is closed."""

_STAGES_KEPT = 1024
"""How many changes of stage are known again when a new stream repeats them; it repeats 256."""

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0


def watch(
    base: HttpAddress, view: WatchView, *, until: str | None, timeout_seconds: float | None
) -> int:
    """Show what happens until interrupted, `until` is reached or the time is up.

    Args:
        base: Where the status page is.
        view: How it is shown; it is closed at the end.
        until: The stage that ends it.
        timeout_seconds: How long it may take at most.

    Returns:
        The exit status.

    Raises:
        UserError: When there is a service, but no event stream, or when the reader is gone.
    """
    watcher = _Watcher(base.below("events"), view, until, timeout_seconds)
    try:
        with contextlib.closing(view):
            view.open()
            status = watcher.run()
    except (BrokenPipeError, SystemExit):  # rich makes an exit of that
        raise ReaderGone from None
    if status == BUDGET_SPENT:
        watcher.say_what_was_missed()  # below what the view has shown, not in it
    return status


class _Watcher:
    def __init__(
        self,
        address: HttpAddress,
        view: WatchView,
        until: str | None,
        timeout_seconds: float | None,
    ) -> None:
        self._address = address
        self._view = view
        self._until = until
        self._ends_at = float("inf") if timeout_seconds is None else _now() + timeout_seconds
        self._timeout_seconds = timeout_seconds or 0.0
        self._stage = ""
        self._seen: deque[tuple[str, str]] = deque(maxlen=_STAGES_KEPT)
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def run(self) -> int:
        while (left := self._ends_at - _now()) > 0:
            try:
                if self._follow(min(_SILENCE_SECONDS, left)):
                    return OK
                why = f"{self._address}: the service has ended the stream"
            except Unreachable as error:
                why = str(error)
            if _now() >= self._ends_at:
                break
            self._view.gone(why)
            time.sleep(max(0.0, min(self._pause_seconds, self._ends_at - _now())))
            self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        return BUDGET_SPENT

    def say_what_was_missed(self) -> None:
        what = f"{self._until} was not reached" if self._until else "the time is up"
        seen = f"the stage is {self._stage}" if self._stage else "there was no answer"
        note(f"{what} after {self._timeout_seconds:g} s: {seen}")

    def _follow(self, silence_seconds: float) -> bool:
        """Show one stream; return whether `until` is reached."""
        told_history = False
        for event in events(self._address, silence_seconds):
            self._pause_seconds = _FIRST_PAUSE_SECONDS
            data = event.data
            reached = None
            if event.name == "stage":
                # A new stream repeats what an earlier one said; another life of the service
                # begins to count anew, at another time.
                key = (shown(data.get("sequence")), shown(data.get("at_unix_seconds")))
                if key not in self._seen:
                    self._seen.append(key)
                    self._view.stage(data)
                    # What lies before the first state is history, and may have been long ago.
                    reached = data.get("current") if told_history else None
            elif event.name == "state":
                told_history = True
                self._stage = shown(data.get("stage"))
                self._view.state(data)
                reached = data.get("stage")
            if self._until is not None and reached == self._until:
                return True
            if _now() >= self._ends_at:
                return False
        return False


def _now() -> float:
    return time.monotonic()
